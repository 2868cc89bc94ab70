"""Saving and opening defended classifiers: the base model's spec, the cut, and program texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from suture.errors import ModelError
from suture.models import attach, build_from_spec, cut, files_of, register_builder, spec_of
from suture.repairs.defensyn.defended import DefendedClassifier
from suture.repairs.defensyn.language import parse

KIND = "defensyn"


def describe(defended: DefendedClassifier, base: nn.Module, at: str) -> None:
    """Hang the spec on the module, if its base model has one; otherwise it cannot be saved."""
    try:
        spec = spec_of(base)
    except ModelError:
        return
    programs = [str(program) for program in defended.programs]
    attach(defended, {"kind": KIND, "base": spec, "at": at, "programs": programs}, files_of(base))


def _build(spec: dict[str, Any], folder: Path | None) -> nn.Module:
    parts = cut(build_from_spec(spec["base"], folder), at=spec["at"])
    programs = tuple(parse(text) for text in spec["programs"])
    return DefendedClassifier(parts.encoder, parts.head, programs, parts.features)


register_builder(KIND, _build)
