"""``module:factory``: a user's own function that returns a classifier, run only when trusted."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from suture.errors import ModelError
from suture.models.spec import Spec, attach, code_trusted, register_builder

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def is_reference(ref: str) -> bool:
    """Whether a string has the form ``package.module:function``."""
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
    model = _call(ref, plain)
    spec: Spec = {"kind": "factory", "ref": ref, "options": plain}
    if "in_shape" in plain:
        spec["in_shape"] = plain["in_shape"]
    return attach(model, spec).eval()


def _call(ref: str, options: Mapping[str, Any]) -> nn.Module:
    module, _, path = ref.partition(":")
    try:
        made: Any = importlib.import_module(module)
        for name in path.split("."):
            made = getattr(made, name)
        made = made(**options)
    except Exception as error:
        raise ModelError(
            expected=f"a factory {ref} that returns an nn.Module",
            got=f"{type(error).__name__}: {error}",
            remedy="Check the import path, and the options the factory takes.",
        ) from error
    if not isinstance(made, nn.Module):
        raise ModelError(
            expected=f"a factory {ref} that returns an nn.Module",
            got=type(made).__name__,
            remedy="Return the classifier itself.",
        )
    return made


def _rebuild(spec: Spec, folder: Path | None) -> nn.Module:
    return build(spec["ref"], spec["options"], trust_code=code_trusted())


register_builder("factory", _rebuild)
