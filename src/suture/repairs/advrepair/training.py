"""Algorithms 1 and 2: patches descend the loss of their boxes, boxes that resist are split.

All patches of a piece are one tensor program. Pieces are as large as a cache: training them one
after another gives what training all at once would, since no patch meets another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from suture.bounds import Method
from suture.repairs.advrepair.bank import Layers, choose
from suture.repairs.advrepair.bounding import Relaxed, joint
from suture.repairs.advrepair.regions import per_clause

_CACHE = 4_000_000
_BETA1, _BETA2, _TINY = 0.9, 0.999, 1e-8

Relax = Callable[[Tensor, Tensor, Tensor], Relaxed]
"""Boxes ``(n, d)`` twice, and the region each is a part of → N's linear bounds on them."""


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


@dataclass
class Leaves:
    """The boxes that the regions are cut into.

    Attributes:
        linear: N's bounds on them.
        region: int64 ``(n,)``: which region each box is a part of.
        owner: int64 ``(n,)``: its patch.
    """

    linear: Relaxed
    region: Tensor
    owner: Tensor

    def __getitem__(self, index: Tensor) -> Leaves:
        return Leaves(self.linear[index], self.region[index], self.owner[index])

    @staticmethod
    def concat(parts: list[Leaves]) -> Leaves:
        """All boxes of some parts."""
        return Leaves(
            Relaxed.concat([p.linear for p in parts]),
            torch.cat([p.region for p in parts]),
            torch.cat([p.owner for p in parts]),
        )


@dataclass
class Adam:
    """Adam (Kingma & Ba 2015) on stacked parameters; patches that are finished stay as they are."""

    rate: float
    moments: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    steps: int = 0

    def step(self, parameters: list[Tensor], active: Tensor) -> None:
        """One step of the active patches ``(p,)``, from the gradients in ``.grad``."""
        if not self.moments:
            self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
        self.steps += 1
        first, second = 1 - _BETA1**self.steps, 1 - _BETA2**self.steps
        with torch.no_grad():
            for parameter, (mean, square) in zip(parameters, self.moments, strict=True):
                gradient = _clean(parameter.grad)
                mean.lerp_(gradient, 1 - _BETA1)
                square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
                change = mean / first / ((square / second).sqrt() + _TINY)
                parameter.sub_(self.rate * change * _like(active, parameter))


@dataclass
class Descent:
    """Plain gradient descent, as the paper writes it (Algorithm 2, line 5)."""

    rate: float

    def step(self, parameters: list[Tensor], active: Tensor) -> None:
        """One step of the active patches ``(p,)``."""
        with torch.no_grad():
            for parameter in parameters:
                gradient = _clean(parameter.grad)
                parameter.sub_(self.rate * gradient * _like(active, parameter))


def _clean(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return torch.nan_to_num(gradient, 0.0, 0.0, 0.0)


def _like(active: Tensor, parameter: Tensor) -> Tensor:
    return active.to(parameter.dtype).view(-1, *(1,) * (parameter.ndim - 1))


def train(
    layers: Layers,
    leaves: Leaves,
    how: Training,
    relax: Relax,
    on_progress: Callable[[int, int], None],
) -> tuple[Layers, Leaves, dict[str, Any]]:
    """Train all patches.

    Returns:
        the patches; the boxes in which they were trained; counts for the trace.
    """
    trained = [(weight.clone(), bias.clone()) for weight, bias in layers]
    count, done = len(trained[0][0]), 0
    parts, epochs, rounds = [], 0, 0
    for piece in _pieces(leaves.owner, trained, how.method):
        mine = leaves[torch.isin(leaves.owner, piece).nonzero()[:, 0]]
        local = Leaves(mine.linear, mine.region, torch.searchsorted(piece, mine.owner))
        job = _Job(choose(trained, piece), local, how, how.margin[piece], relax)
        job.run()
        for (weight, bias), (new_weight, new_bias) in zip(trained, job.layers, strict=True):
            weight[piece], bias[piece] = new_weight.detach(), new_bias.detach()
        parts.append(Leaves(job.leaves.linear, job.leaves.region, piece[job.leaves.owner]))
        epochs, rounds, done = max(epochs, job.spent), max(rounds, job.round), done + len(piece)
        on_progress(done, count)
    found = Leaves.concat(parts)
    return trained, found, {"epochs": epochs, "rounds": rounds, "boxes": len(found.region)}


def _pieces(owner: Tensor, layers: Layers, method: Method) -> Iterator[Tensor]:
    """Patches in groups whose boxes fit together, in order."""
    room, group, filled = _fits(layers, method), list[int](), 0
    sizes = owner.bincount(minlength=len(layers[0][0])).tolist()
    for patch, boxes in enumerate(sizes):
        if group and filled + boxes > room:
            yield torch.tensor(group)
            group, filled = [], 0
        group.append(patch)
        filled += boxes
    yield torch.tensor(group)


def _fits(layers: Layers, method: Method) -> int:
    """Boxes whose backward rows fit into a cache."""
    widest = max(weight.shape[2] for weight, _ in layers)
    rows = max((weight.shape[1] for weight, _ in layers[:-1]), default=16)
    return max(1, _CACHE // (2 * rows * widest))


@dataclass
class _Job:
    """The patches of a piece on their way."""

    layers: Layers
    leaves: Leaves
    how: Training
    margin: Tensor
    relax: Relax
    spent: int = 0
    round: int = 0

    def __post_init__(self) -> None:
        self.room = _fits(self.layers, self.how.method)
        # A patch of one layer is a constant: its weights stay 0.
        learnt = [layer[1:] if len(self.layers) == 1 else layer for layer in self.layers]
        self.parameters = [t.requires_grad_() for layer in learnt for t in layer]
        kind = Adam if self.how.optimiser == "adam" else Descent
        self.optimiser = kind(self.how.rate)
        self.active = torch.ones(len(self.layers[0][0]), dtype=torch.bool)

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
            total = torch.zeros(len(self.active)).index_add_(0, self.leaves.owner, losses)
            self.active = self.active & (total > 0)
        return not bool(self.active.any())

    def _step(self, *, gradients: bool = True) -> Tensor:
        """Losses ``(n,)`` of all boxes, 0 for those of finished patches; fills the gradients."""
        for parameter in self.parameters:
            parameter.grad = None
        losses = torch.zeros(len(self.leaves.owner))
        for piece in self.active[self.leaves.owner].nonzero()[:, 0].split(self.room):
            with torch.set_grad_enabled(gradients):
                found = self._loss(piece)
                if gradients:
                    found.sum().backward()
            losses[piece] = torch.nan_to_num(found.detach(), float("inf"))
        return losses

    def _bounds(self, piece: Tensor) -> tuple[Tensor, Tensor]:
        owner = self.leaves.owner[piece]
        lower, slope = joint(self.leaves.linear[piece], choose(self.layers, owner), self.how.method)
        return self.margin[owner, None] - lower, slope

    def _loss(self, piece: Tensor) -> Tensor:
        """L* of each box (Theorem 3.4), a form's loss clipped at 0; for feature spaces not."""
        missing, _ = self._bounds(piece)
        clauses = -per_clause(-missing, self.how.clause)
        return (clauses.clamp_min(0) if self.how.clipped else clauses).sum(1)

    def _refine(self, losses: Tensor) -> None:
        """The K boxes of each patch with the largest loss are halved where it matters most."""
        chosen = _largest(losses, self.leaves.owner, self.how.split)
        if not len(chosen):
            return
        with torch.no_grad():
            axis = torch.cat([self._axis(piece) for piece in chosen.split(self.room)])
        self.leaves = halved(self.leaves, chosen, axis, self.relax)

    def _axis(self, piece: Tensor) -> Tensor:
        missing, slope = self._bounds(piece)
        return worth_halving(self.leaves.linear[piece], missing, slope)


def worth_halving(linear: Relaxed, missing: Tensor, slope: Tensor) -> Tensor:
    """``argmax_d |∂_d L| · width_d``, L being the sum of the forms that are still violated.

    Args:
        missing: ``(n, k)``, what each form lacks.
        slope: ``(n, k, d)``, of its lower bound.
    """
    violated = (missing > 0).to(slope.dtype)
    push = torch.einsum("nk,nkd->nd", violated, slope).abs()
    return (push * (linear.upper - linear.lower)).argmax(1)


def halved(leaves: Leaves, chosen: Tensor, axis: Tensor, relax: Relax) -> Leaves:
    """The boxes with some of them cut in the middle of an axis; new ones come last.

    Args:
        chosen: int64 ``(c,)``.
        axis: int64 ``(c,)``.
    """
    old, at = leaves[chosen], torch.arange(len(chosen))
    middle = (old.linear.lower[at, axis] + old.linear.upper[at, axis]) / 2
    parts = []
    for side in (0, 1):
        lower, upper = old.linear.lower.clone(), old.linear.upper.clone()
        (lower if side else upper)[at, axis] = middle
        parts.append(Leaves(relax(lower, upper, old.region), old.region, old.owner))
    keep = torch.ones(len(leaves.region), dtype=torch.bool)
    keep[chosen] = False
    return Leaves.concat([leaves[keep.nonzero()[:, 0]], *parts])


def divided(leaves: Leaves, cuts: int, relax: Relax) -> Leaves:
    """The boxes cut on until there are ``cuts`` of them, or N alone is proved on all: those whose
    worst form lacks most come first."""
    while len(leaves.region) < cuts:
        missing = -torch.nan_to_num(leaves.linear.alone(), float("-inf"))
        worst, order = missing.amax(1).sort(descending=True, stable=True)
        chosen = order[worst > 0][: cuts - len(order)]
        if not len(chosen):
            return leaves
        axis = worth_halving(leaves.linear[chosen], missing[chosen], leaves.linear.slope[chosen])
        leaves = halved(leaves, chosen, axis, relax)
    return leaves


def _largest(losses: Tensor, owner: Tensor, count: int) -> Tensor:
    """Boxes with a positive loss, at most ``count`` of the largest per patch."""
    order = losses.argsort(descending=True, stable=True)
    order = order[owner[order].argsort(stable=True)]
    own = owner[order]
    first = torch.searchsorted(own, own)
    rank = torch.arange(len(own)) - first
    return order[(rank < count) & (losses[order] > 0)]
