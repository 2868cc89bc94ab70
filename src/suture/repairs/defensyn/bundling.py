"""Saving and opening defended classifiers: the base model's spec, the cut, and program texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from suture.errors import ModelError
from suture.models import attach, build_from_spec, cut, files_of, register_builder, spec_of
from suture.repairs.defensyn.defended import DefendedClassifier
from suture.repairs.defensyn.language import parse
from suture.repairs.defensyn.random_programs import RandomPrograms
from suture.repairs.defensyn.scratch import with_scratch

KIND, RANDOM = "defensyn", "defensyn-random"


def describe(
    defended: DefendedClassifier | RandomPrograms, base: nn.Module, at: str, scratch: int = 0
) -> None:
    """Hang the spec on the module, if its base model has one; otherwise it cannot be saved."""
    try:
        spec = spec_of(base)
    except ModelError:
        return
    own = _own(defended) | ({"scratch": scratch} if scratch else {})
    attach(defended, {"base": spec, "at": at, **own}, files_of(base))


def _own(defended: DefendedClassifier | RandomPrograms) -> dict[str, Any]:
    if isinstance(defended, DefendedClassifier):
        own = {"kind": KIND, "programs": [str(program) for program in defended.programs]}
        return own if defended.weights is None else {**own, "weights": list(defended.weights)}
    constants = list(defended.constants)
    return {"kind": RANDOM, "max_length": defended.max_length, "constants": constants}


def _build(spec: dict[str, Any], folder: Path | None) -> nn.Module:
    parts = cut(build_from_spec(spec["base"], folder), at=spec["at"])
    parts = with_scratch(parts, int(spec.get("scratch", 0)))
    programs = tuple(parse(text) for text in spec["programs"])
    weights = tuple(spec["weights"]) if "weights" in spec else None
    return DefendedClassifier(parts.encoder, parts.head, programs, parts.features, weights)


def _build_random(spec: dict[str, Any], folder: Path | None) -> nn.Module:
    parts = cut(build_from_spec(spec["base"], folder), at=spec["at"])
    low, high = (float(value) for value in spec["constants"])
    return RandomPrograms(
        parts.encoder, parts.head, parts.features, int(spec["max_length"]), (low, high)
    )


register_builder(KIND, _build)
register_builder(RANDOM, _build_random)
