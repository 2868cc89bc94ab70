"""``module:factory``: a user's own function that returns a classifier, run only when trusted."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from suture.errors import ModelError
from suture.models.normalising import normalised
from suture.models.spec import Spec, attach, code_trusted, register_builder

_REFERENCE = re.compile(r"([A-Za-z_][\w.]*|.*\.py):[A-Za-z_][\w.]*")


def is_reference(ref: str) -> bool:
    """Whether a string has the form ``package.module:function`` or ``file.py:function``."""
    return _REFERENCE.fullmatch(ref) is not None


def build(ref: str, options: Mapping[str, Any], *, trust_code: bool) -> nn.Module:
    """Import the module, call the factory with the options, and attach the spec.

    Options must be JSON-able for the model to be saved as a bundle.

    Raises:
        ModelError: unless ``trust_code``; or if there is no such factory, or it fails.
    """
    if not trust_code:
        raise ModelError(
            expected="trust_code=True for a model that runs code of its own",
            got=f"{ref!r} without it",
            remedy="If you trust that module, pass trust_code=True (--trust-code).",
        )
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
    factory = _found(ref)
    outside = {k: plain.pop(k) for k in ("mean", "std") if k in plain and not _takes(factory, k)}
    model = _made(factory, ref, plain)
    spec: Spec = {"kind": "factory", "ref": ref, "options": plain}
    if "in_shape" in plain:
        spec["in_shape"] = plain["in_shape"]
    return normalised(attach(model, spec).eval(), **outside)


def _found(ref: str) -> Any:
    """What the reference names, imported; modules beside the user are found too."""
    place, _, path = ref.rpartition(":")
    with _beside(place) as module, _reported(ref):
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    return found


@contextlib.contextmanager
def _beside(place: str) -> Iterator[str]:
    """The module's name; inside, the user's folder (or the file's) comes first on the path.

    Afterwards it stays as the last one: what the module imports later is found, here and in
    workers, and nothing that is installed is hidden.
    """
    file = Path(place).expanduser()
    own = place.endswith(".py")
    folder = str((file.parent if own else Path.cwd()).resolve())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield file.stem if own else place
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


@contextlib.contextmanager
def _reported(ref: str) -> Iterator[None]:
    """Whatever the user's code raises, as one error that says where."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            expected=f"a factory {ref} that returns an nn.Module",
            got=f"{type(error).__name__}: {error}{_line_of(error)}",
            remedy="Check the import path (modules in the current folder are found), and the "
            "options the factory takes.",
        ) from error


def _line_of(error: Exception) -> str:
    """Where in the user's code it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "importlib" not in f.filename and f.filename != __file__]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def _takes(factory: Any, name: str) -> bool:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return True
    return name in parameters


def _made(factory: Any, ref: str, options: Mapping[str, Any]) -> nn.Module:
    with _reported(ref):
        made = factory(**options)
    if isinstance(made, nn.Module):
        return made
    raise ModelError(
        expected=f"a factory {ref} that returns an nn.Module",
        got=type(made).__name__,
        remedy="Return the classifier itself.",
    )


def _rebuild(spec: Spec, folder: Path | None) -> nn.Module:
    return build(spec["ref"], spec["options"], trust_code=code_trusted())


register_builder("factory", _rebuild)
