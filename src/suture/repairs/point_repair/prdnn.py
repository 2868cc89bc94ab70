"""PRDNN: the smallest change of one layer of the decoupled network (Sotoudeh & Thakur 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from suture.repairs.base import REPAIRS
from suture.repairs.point_repair.layer_program import LayerChange
from suture.repairs.point_repair.layer_repair import LayerRepair, add_change
from suture.repairs.weight_patch import decoupled_copy


@REPAIRS.add("prdnn")
@dataclass(frozen=True, kw_only=True)
class PRDNN(LayerRepair):
    """PRDNN's point repair (Sotoudeh & Thakur 2021): a linear program on one layer of a decoupled
    network.

    In the decoupled network the original weights go on deciding which neurons are active, and a
    copy carries the values. Its outputs are affine in the carrying weights and bias of one layer,
    so that ``min max |θ| + mean |θ|`` subject to "the right logit wins by the margin" is a linear
    program, and its solution repairs every given input.
    """

    phases: ClassVar[bool] = False

    def changed(self, model: nn.Module, layer: int, change: LayerChange) -> nn.Module:
        """The decoupled network with the change in its carrying layer."""
        made = decoupled_copy(model)
        add_change([one for one in made.carrying if isinstance(one, nn.Linear)], layer, change)
        return made
