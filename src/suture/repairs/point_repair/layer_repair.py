"""What PRDNN and APRNN share: a layer is chosen, its program solved, the result judged."""

from __future__ import annotations

import copy
import time
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from suture.attacks.aigent.tail import Tail
from suture.errors import ArgumentError
from suture.repairs.context import Context
from suture.repairs.fooling import FooledImages
from suture.repairs.point_repair.base import Made, PointRepair, right
from suture.repairs.point_repair.layer_program import (
    LayerChange,
    LayerDemand,
    LayerProgram,
    LayerWish,
)
from suture.repairs.point_repair.sensitivity import Sensitivity
from suture.repairs.weight_patch import entries, linear_layers, tail_of
from suture.solvers import SOLVERS, SolverStatus
from suture.types import LabelledImages


@dataclass(frozen=True, kw_only=True)
class LayerRepair(PointRepair):
    """A linear program over the parameters of one of the last fully connected layers.

    Args:
        layer: "last", "first", a number counted from 1 among the last fully connected layers, or
            "best": each is tried, and of those with the most inputs right the one that loses the
            least accuracy on training images is kept (the papers compare layers so).
        margin: by how much the right logit must win.
        max_change: largest change of a parameter.
        solver: "highs", "gurobi" or "scip".
        seconds: wall time a layer may take, ``None`` for no limit.
        numbers: with "best", layers that have more weights than this are left out, the last one
            never; the trace says which ("skipped"). ``None`` tries them all.
        judged: training images by which "best" counts what is lost.
    """

    layer: str = "best"
    margin: float = 0.05
    max_change: float = 3.0
    solver: Literal["highs", "gurobi", "scip"] = "highs"
    seconds: float | None = None
    numbers: int | None = 20_000
    judged: int = 1000

    phases: ClassVar[bool]
    """Whether inputs must keep their phases."""

    def _checks(self) -> dict[str, bool]:
        named = self.layer in ("last", "first", "best")
        return super()._checks() | {
            'layer "last", "first", "best" or a number': named or self.layer.isdigit(),
            "margin > 0": self.margin > 0,
            "max_change > 0": self.max_change > 0,
            f"a solver out of {', '.join(SOLVERS)}": self.solver in SOLVERS,
            "seconds > 0, or None": self.seconds is None or self.seconds > 0,
            "numbers >= 1, or None": self.numbers is None or self.numbers >= 1,
            "judged >= 1": self.judged >= 1,
        }

    @abstractmethod
    def changed(self, model: nn.Module, layer: int, change: LayerChange) -> nn.Module:
        """A copy of the model with the change of a layer (1 … L)."""

    def _repaired(
        self, model: nn.Module, found: FooledImages, data: LabelledImages, context: Context
    ) -> Made:
        wrong, few = found.wrong, data[: self.judged]
        assert wrong is not None, "there is something to repair"
        tail, given = tail_of(model), entries(model, found.images, context.batch_size)
        layers, skipped = self._layers(tail)
        table, best, score, chosen = list[dict[str, Any]](), copy.deepcopy(model), (-1, -1), 0
        for number, layer in enumerate(layers):
            started = time.monotonic()
            change = self._solved(model, tail, layer, given, wrong.labels.tolist())
            row: dict[str, Any] = {
                "layer": layer,
                "status": change.status.name.lower(),
                "sentence": change.status.value,
                "programs": change.programs,
            }
            if change.status.found:
                tried = self.changed(model, layer, change)
                own = (
                    int(right(tried, wrong, context.batch_size).sum()),
                    int(right(tried, few, context.batch_size).sum()),
                )
                row |= {
                    "right": own[0],
                    "judged_right": own[1],
                    "largest": float(np.abs(change.weights).max()),
                    "cost": change.cost,
                }
                if own > score:
                    best, score, chosen = tried, own, layer
            table.append(row | {"seconds": round(time.monotonic() - started, 3)})
            context.tell("layers", number + 1, len(layers))
        late = all(row["status"] == SolverStatus.OUT_OF_TIME.name.lower() for row in table)
        ended = "OUT_OF_TIME" if late else "INFEASIBLE"
        facts = {"layer": chosen, "layers": table, "skipped": skipped, "judged": len(few)}
        return best, facts | ({"ended": ended} if score[0] < 0 else {}), ()

    def _solved(
        self, model: nn.Module, tail: Tail, layer: int, given: np.ndarray, labels: list[int]
    ) -> LayerChange:
        demands, biased = [], [one.bias is not None for one in linear_layers(model)]
        for entry, label in zip(given, labels, strict=True):
            local = Sensitivity.of(tail, layer, entry, later=self.phases, biased=biased)
            matrix = wins(label, len(local.outputs))
            demands.append(LayerDemand(local, matrix, np.full(len(matrix), self.margin)))
        return LayerProgram(demands, len(tail.biases[layer - 1]), self.wish()).solve()

    def wish(self) -> LayerWish:
        """What is minimised: APRNN's cost counts changes of outputs too."""
        return LayerWish(self.phases, self.phases, self.max_change, self.solver, self.seconds)

    def _layers(self, tail: Tail) -> tuple[list[int], list[int]]:
        """The layers to be tried, and those that are too large for it."""
        count = len(tail)
        if self.layer == "best":
            most = np.inf if self.numbers is None else self.numbers
            large = [k for k in range(1, count) if tail.weights[k - 1].size > most]
            return [k for k in range(1, count + 1) if k not in large], large
        number = {"last": count, "first": 1}.get(self.layer) or int(self.layer)
        if not 1 <= number <= count:
            raise ArgumentError(
                expected=f"a layer from 1 to {count}, the fully connected layers at the end",
                got=self.layer,
                remedy='Use "best" to try them all.',
            )
        return [number], []


def wins(label: int, classes: int) -> np.ndarray:
    """``e_label - e_j`` for every other class j, ``(classes - 1, classes)``."""
    matrix = -np.eye(classes)
    matrix[:, label] = 1.0
    return np.delete(matrix, label, axis=0)


def add_change(layers: list[nn.Linear], number: int, change: LayerChange) -> None:
    """Add the change of layer ``number`` (1 … L) and of later biases to modules, in place."""
    with torch.no_grad():
        layer = layers[number - 1]
        layer.weight.add_(torch.from_numpy(change.weights[:, :-1]).to(layer.weight))
        _shift(layer, change.weights[:, -1])
        start = 0
        for later in layers[number:] if len(change.later) else []:
            _shift(later, change.later[start : start + later.out_features])
            start += later.out_features


def _shift(layer: nn.Linear, by: np.ndarray) -> None:
    if layer.bias is not None:
        layer.bias.add_(torch.from_numpy(by).to(layer.bias))
