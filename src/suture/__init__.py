"""suture: attack, repair, prove and report on trained image classifiers.

The way through: ``data`` → ``models`` → ``attacks`` → ``repairs`` → ``evaluate`` → ``report``.

>>> import suture
>>> suture.data.load("digits").in_shape
(1, 8, 8)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from suture import attacks, data, engine, evaluate, models, pipeline, repairs, report, training
    from suture.attacks import PGD, Attack, AttackResult, RandomNoise, Square
    from suture.loading import load
    from suture.models import cut, save
    from suture.repairs import DefEnSyn, Repair, RepairResult, repair
    from suture.types import Batch, Box, ThreatModel

_MODULES = (
    "attacks",
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
    "PGD": "attacks",
    "Attack": "attacks",
    "AttackResult": "attacks",
    "RandomNoise": "attacks",
    "Square": "attacks",
    "cut": "models",
    "save": "models",
    "load": "loading",
    "DefEnSyn": "repairs",
    "Repair": "repairs",
    "RepairResult": "repairs",
    "repair": "repairs",
    "Batch": "types",
    "Box": "types",
    "ThreatModel": "types",
}

__all__ = [
    "PGD",
    "Attack",
    "AttackResult",
    "Batch",
    "Box",
    "DefEnSyn",
    "RandomNoise",
    "Repair",
    "RepairResult",
    "Square",
    "ThreatModel",
    "__version__",
    "attacks",
    "cut",
    "data",
    "engine",
    "evaluate",
    "load",
    "models",
    "pipeline",
    "repair",
    "repairs",
    "report",
    "save",
    "training",
]


def __getattr__(name: str) -> Any:
    """Modules and their main names are imported when they are first asked for."""
    if name in _MODULES:
        return import_module(f"suture.{name}")
    if name in _NAMES:
        return getattr(import_module(f"suture.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'suture' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
