"""suture: attack, repair, prove and report on trained image classifiers.

The way through: ``data`` → ``models`` → ``attacks`` → ``repairs`` → ``evaluate`` → ``report``.

>>> import suture
>>> suture.data.load("digits").in_shape
(1, 8, 8)
"""

# ruff: noqa: F401 - what TYPE_CHECKING imports is for readers and type checkers

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from suture import (
        attacks,
        bounds,
        certify,
        data,
        engine,
        evaluate,
        models,
        pipeline,
        repairs,
        report,
        training,
    )
    from suture.attacks import *  # noqa: F403
    from suture.auto import *  # noqa: F403
    from suture.loading import load
    from suture.models import cut, save, wrap
    from suture.repairs import *  # noqa: F403
    from suture.types import Batch, Box, ThreatModel

_MODULES = (
    "attacks",
    "bounds",
    "certify",
    "data",
    "engine",
    "evaluate",
    "models",
    "pipeline",
    "repairs",
    "report",
    "training",
)
_NAMES = {
    "cut": "models",
    "save": "models",
    "wrap": "models",
    "load": "loading",
    "Batch": "types",
    "Box": "types",
    "ThreatModel": "types",
}
_METHODS = ("attacks", "repairs", "auto")
"""Whatever these export is exported here too."""


def __getattr__(name: str) -> Any:
    """Modules and their main names are imported when they are first asked for."""
    if name in _MODULES or find_spec(f"suture.{name}") is not None:
        return import_module(f"suture.{name}")
    if name in _NAMES:
        return getattr(import_module(f"suture.{_NAMES[name]}"), name)
    if not name.startswith("_") and find_spec(f"suture.{name}") is None:
        for room in _METHODS:
            module = import_module(f"suture.{room}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module 'suture' has no attribute {name!r}")


def __dir__() -> list[str]:
    methods = [n for room in _METHODS for n in import_module(f"suture.{room}").__all__]
    return sorted({"__version__", *_MODULES, *_NAMES, *methods})
