"""Minimal weight patches as a repair (Goldberger et al. 2020; Sotoudeh & Thakur 2021; AIGENT).

The smallest change of one layer's weights with which the network says the right thing about given
inputs, while it goes on being right about others.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from suture.attacks import Attack
from suture.attacks.spread import spread
from suture.errors import ArgumentError, require
from suture.models import identity
from suture.repairs.base import REPAIRS, Repair
from suture.repairs.context import Context
from suture.repairs.result import RepairResult, Status
from suture.repairs.weight_patch.layers import LayerTask, Patcher
from suture.repairs.weight_patch.module import decoupled, with_patch
from suture.repairs.weight_patch.points import Point, entries, largest, tail_of
from suture.repairs.weight_patch.program import LayerPatch, Size, Wish
from suture.rng import Stream
from suture.solvers import SOLVERS, SolverStatus
from suture.types import Batch, LabelledImages

_SOFT = 1e3
"""Cost of missing the demand of an input to be repaired, where it may be missed at all."""


@REPAIRS.add("weight-patch")
@dataclass(frozen=True, kw_only=True)
class WeightPatch(Repair):
    """The smallest change of one fully connected layer that makes given inputs right.

    The inputs to repair are training images that the model gets wrong, and attacked ones where an
    attack is given. With phases fixed to theirs a demand is linear in the layer's weights; what
    the patched network breaks becomes a row, until network and program agree.

    Args:
        attack: also repair images that this attack turns; ``None`` for wrong images alone.
        samples: training images looked at, drawn by the seed; those that are wrong, and attacked
            ones that are wrong, are to be repaired.
        keep: further training images that are right and should stay right.
        keep_price: cost of losing a kept image's margin by one; ``inf`` keeps all of them (hard).
        layer: "last", "first", a number counted from 1 among the last fully connected layers,
            "best" (each is tried; the one with the most inputs right, then the smallest change),
            or "sequence" (from the last to the first, each repairs what is left).
        size: what is minimised: "linf" the largest change and then the sum, "l1" the sum, "both"
            the largest plus the mean (PRDNN), "count" the number of changed weights.
        exact: for "count": the mixed-integer program; give ``seconds``.
        margin: by how much the right logit must win.
        max_change: largest change of a weight (PRDNN: 3), ``None`` for no limit.
        decoupled: the original weights go on deciding which neurons are active (PRDNN's decoupled
            network); the patch then needs no phases.
        hard: every input to repair must be right, or the repair is infeasible; without it inputs
            may be missed where they must.
        phases: "fixed" to the inputs', or "free": the smallest patch in any phases, by a
            mixed-integer program with bound and gap, for sizes "linf" and "l1"; give ``seconds``.
        solver: "highs", "gurobi" or "scip".
        rounds: programs at most, a layer.
        seconds: wall time a layer may take, ``None`` for no limit.
        numbers: with "best", layers that have more weights than this are left out, the last one
            never, and the trace says so ("skipped"); ``None`` tries them all.
    """

    attack: Attack | None = None
    samples: int = 200
    keep: int = 200
    keep_price: float = 1.0
    layer: str = "last"
    size: Size = "linf"
    exact: bool = False
    margin: float = 1e-2
    max_change: float | None = None
    decoupled: bool = False
    hard: bool = False
    phases: Literal["fixed", "free"] = "fixed"
    solver: Literal["highs", "gurobi", "scip"] = "highs"
    rounds: int = 60
    seconds: float | None = None
    numbers: int | None = 100_000

    def __post_init__(self) -> None:
        named = self.layer in ("last", "first", "best", "sequence")
        checks = {
            "samples >= 1": self.samples >= 1,
            "keep >= 0": self.keep >= 0,
            "keep_price > 0": self.keep_price > 0,
            'layer "last", "first", "best", "sequence" or a number': named or self.layer.isdigit(),
            'size "linf", "l1", "both" or "count"': self.size in ("linf", "l1", "both", "count"),
            "margin > 0": self.margin > 0,
            "max_change > 0, or None": self.max_change is None or self.max_change > 0,
            f"a solver out of {', '.join(SOLVERS)}": self.solver in SOLVERS,
            "rounds >= 1": self.rounds >= 1,
            "seconds > 0, or None": self.seconds is None or self.seconds > 0,
            'phases "fixed" or "free"': self.phases in ("fixed", "free"),
            'size "linf" or "l1" where phases are free, and no decoupled network': (
                self.phases == "fixed" or (self.size in ("linf", "l1") and not self.decoupled)
            ),
            "numbers >= 1, or None": self.numbers is None or self.numbers >= 1,
            'one layer where decoupled, not "sequence"': not (
                self.decoupled and self.layer == "sequence"
            ),
        }
        require(checks, self, "See the guide on weight patches.")

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        started, batch_size = time.monotonic(), context.batch_size
        chosen, kept = self._choose(data, context.stream)
        wrong = self._wrong(model, chosen, context)
        right = _those(kept, _right(model, kept, batch_size))
        if wrong is None:
            facts = {"samples": len(chosen), "to_repair": 0}
            return RepairResult(copy.deepcopy(model), Status.UNCHANGED, facts)
        given = [identity(model, part) for part in (wrong, right) if part is not None]
        work = f"{self!r} {batch_size} {' '.join(given)}"
        patch = Patcher(context.engine, work, context.tell)
        repaired, table = self._repaired(model, wrong, right, batch_size, patch)
        facts = _facts(model, repaired, wrong, right, batch_size)
        trace = {
            "samples": len(chosen),
            **facts,
            "layers": [_row(patch, len(wrong)) for patch in table],
            "skipped": self._skipped(model),
            "why": " ".join(f"Layer {r['layer']}: {r['sentence']}" for r in self._skipped(model)),
            "seconds": round(time.monotonic() - started, 3),
        }
        return RepairResult(repaired, _status(table, facts), trace)

    def _repaired(
        self, model: nn.Module, wrong: Batch, right: Batch | None, batch_size: int, patch: Patcher
    ) -> tuple[nn.Module, list[LayerPatch]]:
        """The repaired model, and a patch for every layer that was tried."""
        skipped = {row["layer"] for row in self._skipped(model)}
        layers = [layer for layer in self._layers(model) if layer not in skipped]
        if self.layer == "sequence":
            return self._in_turn(model, layers, wrong, right, batch_size, patch)
        given = self._points(model, wrong, right, batch_size)
        table = patch(LayerTask(tail_of(model), given, self._wish()), layers, 0, len(layers))
        best = _best(table, len(wrong))
        return (decoupled if self.decoupled else with_patch)(model, best), table

    def _in_turn(
        self,
        model: nn.Module,
        layers: list[int],
        wrong: Batch,
        right: Batch | None,
        batch_size: int,
        patch: Patcher,
    ) -> tuple[nn.Module, list[LayerPatch]]:
        """Each layer repairs what those before it have left."""
        table, repaired = list[LayerPatch](), copy.deepcopy(model)
        for layer in layers:
            given = self._points(repaired, wrong, right, batch_size)
            task = LayerTask(tail_of(repaired), given, self._wish())
            table += patch(task, [layer], len(table), len(layers))
            if table[-1].status.found:
                repaired = with_patch(repaired, table[-1])
            if bool(_right(repaired, wrong, batch_size).all()):
                break
        return repaired, table

    def _choose(self, data: LabelledImages, stream: Stream) -> tuple[Batch, Batch]:
        """Images to look at, and others to keep."""
        order = torch.randperm(len(data), generator=stream.child("samples").generator())
        rest = order[self.samples : self.samples + self.keep]
        rest = rest if len(rest) else order[: max(1, self.keep)]
        return data[order[: self.samples]], data[rest]

    def _wrong(self, model: nn.Module, chosen: Batch, context: Context) -> Batch | None:
        """What the model gets wrong: clean images, then attacked ones."""
        parts = [_those(chosen, ~_right(model, chosen, context.batch_size))]
        if self.attack is not None:
            result = spread(
                self.attack,
                model,
                chosen,
                engine=context.engine,
                generator=context.stream.child("attack"),
                batch_size=context.batch_size,
                on_progress=partial(context.tell, "attacking training images"),
            )
            attacked = Batch(result.images, chosen.labels)
            parts.append(_those(attacked, result.success & result.clean_right))
        some = [part for part in parts if part is not None]
        return Batch.concat(some) if some else None

    def _layers(self, model: nn.Module) -> list[int]:
        count = len(tail_of(model))
        named = {"last": [count], "first": [1], "best": list(range(1, count + 1))}
        named["sequence"] = list(range(count, 0, -1))
        if self.layer in named:
            return named[self.layer]
        number = int(self.layer)
        if not 1 <= number <= count:
            raise ArgumentError(
                expected=f"a layer from 1 to {count}, the fully connected layers at the end",
                got=self.layer,
                remedy='Use "best" to try them all.',
            )
        return [number]

    def _skipped(self, model: nn.Module) -> list[dict[str, Any]]:
        """With "best": layers too large to be tried, and why; the last one never is."""
        if self.layer != "best" or self.numbers is None:
            return []
        sizes = [weight.size for weight in tail_of(model).weights[:-1]]
        return [
            {
                "layer": layer,
                "weights": size,
                "sentence": f"Not tried: it has more than {self.numbers} weights. Name the layer, "
                "or raise numbers, and give seconds.",
            }
            for layer, size in enumerate(sizes, start=1)
            if size > self.numbers
        ]

    def _points(
        self, model: nn.Module, wrong: Batch, right: Batch | None, batch_size: int
    ) -> list[Point]:
        """The demands: inputs to repair first, then those to keep."""
        price = math.inf if self.hard else _SOFT
        points = _points(model, wrong, self.margin, price, batch_size)
        if right is not None and self.keep:
            points += _points(model, right, self.margin, self.keep_price, batch_size)
        return points

    def _wish(self) -> Wish:
        return Wish(
            size=self.size,
            max_change=math.inf if self.max_change is None else self.max_change,
            exact=self.exact,
            decoupled=self.decoupled,
            phases=self.phases,
            rounds=self.rounds,
            solver=self.solver,
            seconds=self.seconds,
        )


def _points(
    model: nn.Module, batch: Batch, margin: float, price: float, batch_size: int
) -> list[Point]:
    found = entries(model, batch.images, batch_size)
    classes = len(tail_of(model).biases[-1])
    pairs = zip(found, batch.labels.tolist(), strict=True)
    return [largest(entry, label, classes, margin, price) for entry, label in pairs]


def _those(batch: Batch, chosen: Tensor) -> Batch | None:
    """The chosen examples, ``None`` where there are none."""
    rows = chosen.nonzero()[:, 0].to(batch.labels.device)
    return batch[rows] if len(rows) else None


def _right(model: nn.Module, batch: Batch, batch_size: int) -> Tensor:
    with torch.no_grad():
        said = [model(piece.images).argmax(1) for piece in batch.split(batch_size)]
    return torch.cat(said) == batch.labels


def _best(table: list[LayerPatch], wrong: int) -> LayerPatch:
    """The layer with the most inputs right, and of those the smallest change."""
    usable = [patch for patch in table if patch.status.found]
    if not usable:
        return dataclasses.replace(table[-1], change=0.0 * table[-1].change)
    return min(usable, key=lambda p: (-int(p.met[:wrong].sum()), -int(p.met.sum()), p.total))


def _facts(
    model: nn.Module, repaired: nn.Module, wrong: Batch, right: Batch | None, batch_size: int
) -> dict[str, Any]:
    """What plain forward passes say about the inputs, before and after."""
    kept = 0 if right is None else len(right)
    return {
        "to_repair": len(wrong),
        "right_before": int(_right(model, wrong, batch_size).sum()),
        "right_after": int(_right(repaired, wrong, batch_size).sum()),
        "kept": kept,
        "kept_right_after": int(_right(repaired, right, batch_size).sum()) if right else 0,
    }


def _row(patch: LayerPatch, wrong: int) -> dict[str, Any]:
    return {
        "layer": patch.layer,
        "status": patch.status.name.lower(),
        "sentence": patch.status.value,
        "largest": patch.largest,
        "total": patch.total,
        "changed": patch.count,
        "weights": patch.change.size,
        "repaired": int(patch.met[:wrong].sum()),
        "bound": patch.bound if math.isfinite(patch.bound) else None,
        "gap": patch.gap if math.isfinite(patch.gap) else None,
        "programs": patch.programs,
        "seconds": round(patch.seconds, 3),
        "notes": list(patch.notes),
    }


def _status(table: list[LayerPatch], facts: dict[str, Any]) -> Status:
    if not any(patch.status.found for patch in table):
        late = all(patch.status is SolverStatus.OUT_OF_TIME for patch in table)
        return Status.OUT_OF_TIME if late else Status.INFEASIBLE
    if facts["right_after"] == facts["to_repair"]:
        return Status.REPAIRED
    return Status.PARTLY if facts["right_after"] > facts["right_before"] else Status.UNCHANGED
