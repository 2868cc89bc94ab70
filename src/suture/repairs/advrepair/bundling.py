"""Saving and opening repaired classifiers: the base model's spec and the shapes of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from suture.errors import ModelError
from suture.models import attach, build_from_spec, cut, files_of, register_builder, spec_of
from suture.repairs.advrepair.allocation import Allocation, Anchors
from suture.repairs.advrepair.bank import PatchBank
from suture.repairs.advrepair.patched import PatchedClassifier

KIND = "advrepair"


def describe(patched: PatchedClassifier, base: nn.Module, at: str | None) -> None:
    """Hang the spec on the module, if its base model has one; otherwise it cannot be saved."""
    try:
        spec = spec_of(base)
    except ModelError:
        return
    allocation, bank = patched.allocation, patched.bank
    shapes = {name: list(buffer.shape) for name, buffer in allocation.named_buffers()}
    own = {
        "kind": KIND,
        "base": spec,
        "at": at,
        "patches": bank.count,
        "inputs": bank.inputs,
        "reads": bank.reads,
        "shared": bank.shared,
        "hidden": list(bank.hidden),
        "classes": bank.classes,
        "rule": allocation.rule,
        "most": allocation.most,
        "shapes": shapes,
    }
    attach(patched, own, files_of(base))


def _build(spec: dict[str, Any], folder: Path | None) -> nn.Module:
    base = build_from_spec(spec["base"], folder)
    encoder, head = halves(base, spec["at"])
    bank = PatchBank(
        spec["patches"],
        spec["inputs"],
        spec["hidden"],
        spec["classes"],
        spec.get("shared", 0),  # bundles from before have neither
        spec.get("reads", spec["inputs"]),
    )
    whole = ("patch", "label", "second")
    anchors = {
        name: torch.zeros(shape, dtype=torch.int64 if name in whole else torch.float32)
        for name, shape in spec["shapes"].items()
    }
    allocation = Allocation(Anchors(**anchors), spec["patches"], spec["rule"], spec["most"])
    return PatchedClassifier(encoder, head, bank, allocation)


def halves(base: nn.Module, at: str | None) -> tuple[nn.Module, nn.Module]:
    """Identity and the whole model, or the model cut at a layer."""
    if at is None:
        return nn.Identity(), base
    parts = cut(base, at=at)
    return parts.encoder, parts.head


register_builder(KIND, _build)
