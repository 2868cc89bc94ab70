"""APRNN: one layer's weights and later biases, in the inputs' phases (Tao et al. 2023)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from suture.repairs.base import REPAIRS
from suture.repairs.point_repair.layer_program import LayerChange
from suture.repairs.point_repair.layer_repair import LayerRepair, add_change
from suture.repairs.weight_patch import linear_layers


@REPAIRS.add("aprnn")
@dataclass(frozen=True, kw_only=True)
class APRNN(LayerRepair):
    """APRNN's point repair (Tao et al. 2023): a linear program on one layer's weights and all
    later biases, in which every given input keeps its activation pattern.

    With the pattern fixed the outputs are affine in the unknowns; that it stays fixed is a row a
    neuron. The cost is ``max |v| + mean |v|`` over the changes of parameters and of the given
    inputs' outputs. The architecture stays what it was. ``repair_polytopes`` does the same for the
    vertices of small polytopes, and with them for all that lies between.
    """

    phases: ClassVar[bool] = True

    def changed(self, model: nn.Module, layer: int, change: LayerChange) -> nn.Module:
        """A copy of the model with other numbers."""
        made = copy.deepcopy(model)
        add_change(linear_layers(made), layer, change)
        return made
