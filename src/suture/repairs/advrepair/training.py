"""Training of all patches in pieces.

All patches of a piece are one tensor program. Pieces are as large as a cache: training them one
after another, or in other processes, gives what training all at once would, since no patch meets
another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from suture.bounds import Method
from suture.engine import Engine, Handle, Inline
from suture.repairs.advrepair.bank import Layers, choose
from suture.repairs.advrepair.epochs import PatchTraining, Training, boxes_that_fit
from suture.repairs.advrepair.subdomains import Relax, Subdomains
from suture.types import OnDone


@dataclass(frozen=True, eq=False)
class TrainedPatches:
    """Patches of a piece, the boxes that they were trained on, and counts for the trace.

    Attributes:
        layers: the patches, stacked.
        lower, upper: boxes ``(n, d)``.
        region: int64 ``(n,)``: which region each box is a part of.
        epochs, rounds: the most that any patch took.
    """

    layers: Layers
    lower: Tensor
    upper: Tensor
    region: Tensor
    epochs: int
    rounds: int


@dataclass(frozen=True, eq=False)
class TrainingTask:
    """All patches at their start: what every piece of the training needs."""

    layers: Layers
    subdomains: Subdomains
    how: Training
    relax: Relax

    def __call__(self, piece: Tensor) -> TrainedPatches:
        """Train some patches ``(p,)``, given by increasing number."""
        mine = self.subdomains[torch.isin(self.subdomains.owner, piece).nonzero()[:, 0]]
        local = Subdomains(mine.linear, mine.region, torch.searchsorted(piece, mine.owner))
        given = (choose(self.layers, piece), local, self.how, self.how.margin[piece], self.relax)
        job = PatchTraining(*given)
        job.run()
        layers = [(weight.detach(), bias.detach()) for weight, bias in job.layers]
        box = job.subdomains.linear
        return TrainedPatches(
            layers, box.lower, box.upper, job.subdomains.region, job.spent, job.round
        )


def train(
    task: TrainingTask,
    engine: Engine | None = None,
    *,
    work: str = "",
    on_progress: OnDone = lambda *_: None,
) -> TrainedPatches:
    """Train all patches; a piece is an item of the engine.

    Args:
        work: says what is trained, for a run that keeps pieces.
    """
    engine = engine or Inline(threads_per_item=None)
    count = len(task.layers[-1][0])
    pieces = list(_pieces(task.subdomains.owner, task.layers, task.how.method))
    parts: list[TrainedPatches] = []
    with engine.shared(task) as shared:
        kept = engine.keep(
            "patches", partial(_call, shared), pieces, work=work, pack=_to_plain, unpack=_from_plain
        )
        for part, piece in zip(kept, pieces, strict=True):
            parts.append(part)
            on_progress(int(piece[-1]) + 1, count)
    return TrainedPatches(
        layers=[_stacked(weights, biases) for weights, biases in _by_layer(parts)],
        lower=torch.cat([p.lower for p in parts]),
        upper=torch.cat([p.upper for p in parts]),
        region=torch.cat([p.region for p in parts]),
        epochs=max(p.epochs for p in parts),
        rounds=max(p.rounds for p in parts),
    )


def _call(task: Handle[TrainingTask], piece: Tensor) -> TrainedPatches:
    return task.get()(piece)


def _by_layer(parts: list[TrainedPatches]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Weights and biases of all parts, layer by layer."""
    for pairs in zip(*(part.layers for part in parts), strict=True):
        yield [weight for weight, _ in pairs], [bias for _, bias in pairs]


def _stacked(weights: list[Tensor], biases: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Of all patches; what they share is in every part."""
    if weights[0].ndim == 2:
        return weights[0], biases[0]
    return torch.cat(weights), torch.cat(biases)


def _to_plain(part: TrainedPatches) -> dict[str, Any]:
    return vars(part) | {"layers": [list(pair) for pair in part.layers]}


def _from_plain(value: dict[str, Any]) -> TrainedPatches:
    layers = [(weight, bias) for weight, bias in value["layers"]]
    return TrainedPatches(**(value | {"layers": layers}))


def _pieces(owner: Tensor, layers: Layers, method: Method) -> Iterator[Tensor]:
    """Patches in groups whose boxes fit together, in order."""
    room, group, filled = boxes_that_fit(layers, method), list[int](), 0
    sizes = owner.bincount(minlength=len(layers[-1][0])).tolist()
    for patch, boxes in enumerate(sizes):
        if group and filled + boxes > room:
            yield torch.tensor(group)
            group, filled = [], 0
        group.append(patch)
        filled += boxes
    yield torch.tensor(group)
