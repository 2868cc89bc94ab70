"""APRNN: one layer's weights and later biases, in the inputs' phases (Tao et al. 2023)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from suture.certify import certify_box
from suture.repairs.base import REPAIRS
from suture.repairs.point_repair.layer_program import LayerChange
from suture.repairs.point_repair.layer_repair import LayerRepair, add_change
from suture.repairs.point_repair.polytopes import boxes_of, smallest_of
from suture.repairs.result import RepairResult, Status
from suture.repairs.weight_patch import linear_layers, tail_of
from suture.types import Box


@REPAIRS.add("aprnn")
@dataclass(frozen=True, kw_only=True)
class APRNN(LayerRepair):
    """APRNN's point repair (Tao et al. 2023): a linear program on one layer's weights and all
    later biases, in which every given input keeps its activation pattern.

    With the pattern fixed the outputs are affine in the unknowns; that it stays fixed is a row a
    neuron. The cost is ``max |v| + mean |v|`` over the changes of parameters and of the given
    inputs' outputs. The architecture stays what it was. ``of_boxes`` does the same for the
    vertices of boxes of few dimensions, and with them for all that lies between.
    """

    phases: ClassVar[bool] = True

    def changed(self, model: nn.Module, layer: int, change: LayerChange) -> nn.Module:
        """A copy of the model with other numbers."""
        made = copy.deepcopy(model)
        add_change(linear_layers(made), layer, change)
        return made

    def of_boxes(self, model: nn.Module, box: Box, rows: Tensor, add: Tensor) -> RepairResult:
        """Repair whole boxes of few dimensions: ``rows · F(x) + add >= margin`` on all of each.

        Every vertex keeps the pattern of its box's centre, so that the network is affine on the
        box and what holds at the vertices holds between them. Certificates say so.

        Args:
            model: classifier; not changed.
            box: ``(n, *in_shape)``.
            rows, add: ``(n, k, classes)``, ``(n, k)``.

        Raises:
            ArgumentError: a box with a width in more than ten coordinates.
        """
        training, model = model.training, copy.deepcopy(model).eval()
        demands = boxes_of(box, rows, add, self.margin)
        layers, _ = self._layers(tail_of(model))
        made, table = smallest_of(model, layers, demands, self.wish(), self.changed)
        if made is None:
            model.train(training)
            return RepairResult(model, Status.INFEASIBLE, {"layers": table})
        parts = zip(box.lower, box.upper, rows, add, strict=True)
        found = [certify_box(made, *part) for part in parts]
        proved = tuple(one for one in found if one is not None)
        status = Status.REPAIRED if len(proved) == len(found) else Status.PARTLY
        made.train(training)
        trace = {"layers": table, "boxes": len(found), "proved": len(proved)}
        return RepairResult(made, status, trace, proved)
