"""Algorithms 1 and 2: patches descend the loss of their boxes, boxes that resist are split.

All patches of a piece are one tensor program. Pieces are as large as a cache: training them one
after another, or in other processes, gives what training all at once would, since no patch meets
another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from suture.bounds import Method
from suture.engine import Engine, Handle, Inline
from suture.repairs.advrepair.bank import Layers, choose
from suture.repairs.advrepair.bounding import joint
from suture.repairs.advrepair.descent import Adam, Descent
from suture.repairs.advrepair.regions import per_clause
from suture.repairs.advrepair.subdomains import Relax, Subdomains, halved, largest, worth_halving
from suture.types import OnDone

_CACHE = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Training:
    """How patches are trained.

    Attributes:
        rounds: M, at most so many times R epochs and a refinement.
        epochs: R.
        split: K, boxes of one patch that are split after a round.
        rate: step size.
        optimiser: "adam", or "gd" for the paper's plain gradient descent.
        margin: what every bound must exceed, per patch ``(p,)``, logits.
        clause: of the forms.
        clipped: stop a form's loss at 0, and a patch when all its losses are 0. Feature spaces
            do neither.
        method: how the patch is bounded.
    """

    rounds: int
    epochs: int
    split: int
    rate: float
    optimiser: Literal["adam", "gd"]
    margin: Tensor
    clause: tuple[int, ...]
    clipped: bool = True
    method: Method = "crown"


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
        job = _PatchTraining(
            choose(self.layers, piece), local, self.how, self.how.margin[piece], self.relax
        )
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
    room, group, filled = _fits(layers, method), list[int](), 0
    sizes = owner.bincount(minlength=len(layers[-1][0])).tolist()
    for patch, boxes in enumerate(sizes):
        if group and filled + boxes > room:
            yield torch.tensor(group)
            group, filled = [], 0
        group.append(patch)
        filled += boxes
    yield torch.tensor(group)


def _fits(layers: Layers, method: Method) -> int:
    """Boxes whose backward rows fit into a cache."""
    widest = max(weight.shape[-1] for weight, _ in layers)
    rows = max((weight.shape[-2] for weight, _ in layers[:-1]), default=16)
    return max(1, _CACHE // (2 * rows * widest))


@dataclass
class _PatchTraining:
    """The patches of a piece on their way."""

    layers: Layers
    subdomains: Subdomains
    how: Training
    margin: Tensor
    relax: Relax
    spent: int = 0
    round: int = 0

    def __post_init__(self) -> None:
        self.room = _fits(self.layers, self.how.method)
        # A patch of one layer is a constant: its weights stay 0.
        own = [layer for layer in self.layers if layer[0].ndim > 2]
        learnt = [layer[1:] if len(self.layers) == 1 else layer for layer in own]
        self.parameters = [t.requires_grad_() for layer in learnt for t in layer]
        kind = Adam if self.how.optimiser == "adam" else Descent
        self.optimiser = kind(self.how.rate)
        self.active = torch.ones(len(self.layers[-1][0]), dtype=torch.bool)

    def run(self) -> None:
        """Algorithm 1."""
        for _ in range(self.how.rounds):
            self.round += 1
            losses = self._train()
            if not bool(self.active.any()) or self.round == self.how.rounds:
                return
            self._refine(losses)

    def _train(self) -> Tensor:
        """Algorithm 2: at most R epochs; the loss of every box after the last."""
        for _ in range(self.how.epochs):
            losses = self._step()
            if self._finished(losses):
                return losses
            self.spent += 1
            self.optimiser.step(self.parameters, self.active)
        losses = self._step(gradients=False)
        self._finished(losses)
        return losses

    def _finished(self, losses: Tensor) -> bool:
        """Patches without loss leave; whether all have."""
        if self.how.clipped:
            total = torch.zeros(len(self.active)).index_add_(0, self.subdomains.owner, losses)
            self.active = self.active & (total > 0)
        return not bool(self.active.any())

    def _step(self, *, gradients: bool = True) -> Tensor:
        """Losses ``(n,)`` of all boxes, 0 for those of finished patches; fills the gradients."""
        for parameter in self.parameters:
            parameter.grad = None
        losses = torch.zeros(len(self.subdomains.owner))
        for piece in self.active[self.subdomains.owner].nonzero()[:, 0].split(self.room):
            with torch.set_grad_enabled(gradients):
                found = self._loss(piece)
                if gradients:
                    found.sum().backward()
            losses[piece] = torch.nan_to_num(found.detach(), float("inf"))
        return losses

    def _bounds(self, piece: Tensor) -> tuple[Tensor, Tensor]:
        owner = self.subdomains.owner[piece]
        lower, slope = joint(
            self.subdomains.linear[piece], choose(self.layers, owner), self.how.method
        )
        return self.margin[owner, None] - lower, slope

    def _loss(self, piece: Tensor) -> Tensor:
        """L* of each box (Theorem 3.4), a form's loss clipped at 0; for feature spaces not."""
        missing, _ = self._bounds(piece)
        clauses = -per_clause(-missing, self.how.clause)
        return (clauses.clamp_min(0) if self.how.clipped else clauses).sum(1)

    def _refine(self, losses: Tensor) -> None:
        """The K boxes of each patch with the largest loss are halved where it matters most."""
        chosen = largest(losses, self.subdomains.owner, self.how.split)
        if not len(chosen):
            return
        with torch.no_grad():
            axis = torch.cat([self._axis(piece) for piece in chosen.split(self.room)])
        self.subdomains = halved(self.subdomains, chosen, axis, self.relax)

    def _axis(self, piece: Tensor) -> Tensor:
        missing, slope = self._bounds(piece)
        return worth_halving(self.subdomains.linear[piece], missing, slope)
