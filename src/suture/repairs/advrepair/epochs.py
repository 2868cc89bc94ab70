"""Algorithms 1 and 2: the patches of a piece descend the loss of their boxes; boxes that resist are
split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from suture.bounds import Method
from suture.repairs.advrepair.bank import Layers, choose
from suture.repairs.advrepair.bounding import joint
from suture.repairs.advrepair.descent import Adam, Descent
from suture.repairs.advrepair.regions import per_clause
from suture.repairs.advrepair.subdomains import Relax, Subdomains, halved, largest, worth_halving

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


def boxes_that_fit(layers: Layers, method: Method) -> int:
    """Boxes whose backward rows fit into a cache."""
    widest = max(weight.shape[-1] for weight, _ in layers)
    rows = max((weight.shape[-2] for weight, _ in layers[:-1]), default=16)
    return max(1, _CACHE // (2 * rows * widest))


@dataclass
class PatchTraining:
    """The patches of a piece on their way."""

    layers: Layers
    subdomains: Subdomains
    how: Training
    margin: Tensor
    relax: Relax
    spent: int = 0
    round: int = 0

    def __post_init__(self) -> None:
        self.room = boxes_that_fit(self.layers, self.how.method)
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
