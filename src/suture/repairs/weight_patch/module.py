"""Repaired networks: a copy with other weights, and the decoupled network."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from suture.attacks.aigent.tail import read_tail
from suture.errors import ModelError
from suture.models import attach, build_from_spec, files_of, register_builder, spec_of
from suture.repairs.weight_patch.program import LayerPatch

KIND = "weight-patch-decoupled"


def with_patch(model: nn.Module, patch: LayerPatch) -> nn.Module:
    """A copy of the model with the patch added to its layer; saved and opened like the model."""
    copied = copy.deepcopy(model)
    layer = linear_layers(copied)[patch.layer - 1]
    with torch.no_grad():
        layer.weight.add_(torch.from_numpy(patch.change).to(layer.weight))
    return copied


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    """The modules of the model's last fully connected layers, in order."""
    tail = read_tail(model)
    assert tail is not None, "patches are made for models with a tail"
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    return layers[layers.index(tail.first) :]  # type: ignore[arg-type]


class Decoupled(nn.Module):
    """Two copies of a chain's end: one decides the phases, the other carries the values.

    ``z_l = W'_l v_{l-1} + b_l`` and ``v_l = z_l`` where the original network is active, else 0
    (Sotoudeh & Thakur 2021, decoupled DNNs). The outputs are exactly affine in the carrying
    weights of one layer, so that a patch found in fixed phases needs no further check.

    Args:
        original: an ``nn.Sequential`` that ends with linear layers and ReLUs in turn.
    """

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        layers = linear_layers(original)
        self.head = _before(original, layers[0])
        self.deciding = nn.ModuleList(copy.deepcopy(layer) for layer in layers[:-1])
        self.carrying = nn.ModuleList(copy.deepcopy(layer) for layer in layers)
        for parameter in self.deciding.parameters():
            parameter.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Images to logits."""
        deciding = carried = self.head(images)
        for decides, carries in zip(self.deciding, self.carrying, strict=False):
            deciding, carried = decides(deciding), carries(carried)
            carried = torch.where(deciding > 0, carried, torch.zeros_like(carried))
            deciding = torch.relu(deciding)
        last: Tensor = self.carrying[-1](carried)
        return last


def _before(model: nn.Module, first: nn.Module) -> nn.Sequential:
    """Copies of the modules of a chain in front of ``first``."""
    parts: list[nn.Module] = []

    def walk(module: nn.Module) -> bool:
        if module is first:
            return True
        if isinstance(module, nn.Sequential):
            return any(walk(child) for child in module)
        parts.append(copy.deepcopy(module))
        return False

    walk(model)
    return nn.Sequential(*parts)


def decoupled(model: nn.Module, patch: LayerPatch) -> Decoupled:
    """The decoupled network with the patch in its carrying weights."""
    made = decoupled_copy(model)
    with torch.no_grad():
        weight = made.carrying[patch.layer - 1].weight
        assert isinstance(weight, nn.Parameter)
        weight.add_(torch.from_numpy(patch.change).to(weight))
    return made


def decoupled_copy(model: nn.Module) -> Decoupled:
    """The decoupled network that still says what the model says; saved where the model can be."""
    made = Decoupled(model)
    made.train(model.training)
    try:
        attach(made, {"kind": KIND, "base": spec_of(model)}, files_of(model))
    except ModelError:
        return made
    return made


def _build(spec: dict[str, Any], folder: Path | None) -> nn.Module:
    return Decoupled(build_from_spec(spec["base"], folder))


register_builder(KIND, _build)
