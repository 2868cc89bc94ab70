"""DeepFool: to the nearest linearised boundary (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from suture.attacks.base import ATTACKS, Attack, require
from suture.attacks.geometry import column, distance
from suture.attacks.loss_kinds import Loss
from suture.attacks.oracle import Oracle
from suture.attacks.steps import Rows
from suture.types import Norm


@ATTACKS.add("deepfool")
@dataclass(frozen=True, kw_only=True)
class DeepFool(Attack):
    """Steps to the nearest of the linearised class boundaries, until the class changes.

    ``r = (|f_l| + 1e-4)/‖w_l‖₂² · w_l`` for L2, ``|f_l|/‖w_l‖₁ · sign(w_l)`` for L∞, with
    ``f_l = z_l - z_y`` (paper, Algorithm 2 and section 3.3). It looks for a *small* perturbation:
    the default radius is unbounded; with a finite one, what it finds is moved into the ball.

    Args:
        steps: iterations at most, each one query (authors: 50).
        overshoot: the perturbation is stretched by ``1 + overshoot`` (authors: 0.02).
        classes: how many of the clean image's most likely classes are looked at (authors: 10).
    """

    norm: Norm = "l2"
    eps: float = math.inf
    steps: int = 50
    overshoot: float = 0.02
    classes: int = 10

    draws: ClassVar[bool] = False
    can_target: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.steps >= 1, "steps >= 1", f"steps={self.steps!r}")
        require(self.overshoot >= 0, "overshoot >= 0", f"overshoot={self.overshoot!r}")
        require(self.classes >= 2, "classes >= 2", f"classes={self.classes!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        found = images.clone()
        state = Rows(clean=images, rows=rows, here=images, total=torch.zeros_like(images))
        state.others = self._others(oracle.logits(images, rows), oracle.goals[rows])
        for _ in range(self.steps):
            logits = self._linearise(oracle, state)
            gone = oracle.finished(logits, state.rows)
            found[state.place[gone]] = state.here[gone]
            state.leave(gone)
            if not len(state):
                return found
            state.total = state.total + state.move
            state.here = (state.clean + (1 + self.overshoot) * state.total).clamp(0.0, 1.0)
        found[state.place] = state.here
        return found

    def _others(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The most likely classes ``(k, classes - 1)`` besides the label."""
        first = logits.scatter(1, labels[:, None], float("inf"))
        return first.argsort(dim=1, descending=True, stable=True)[:, 1 : self.classes]

    def _linearise(self, oracle: Oracle, state: Rows) -> Tensor:
        """Logits; ``state.move`` becomes the way to the nearest linearised boundary."""
        losses = [_lead(other) for other in state.others.unbind(1)]
        logits, gradients, values = oracle.gradients(state.here, state.rows, losses)
        nearest = torch.full_like(values[0], float("inf"))
        state.move = torch.zeros_like(state.here)
        for gradient, value in zip(gradients, values, strict=True):
            away, move = self._boundary(gradient, value.abs())
            nearer = away < nearest
            nearest = torch.where(nearer, away, nearest)
            state.move = torch.where(column(nearer), move, state.move)
        return logits

    def _boundary(self, gradient: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Distance to ``value + gradient·r = 0`` and the shortest r that reaches it."""
        length = distance("l2" if self.norm == "l2" else "l1", gradient).clamp_min(1e-12)
        away = value / length
        along = gradient / column(length) if self.norm == "l2" else gradient.sign()
        return away, column(away + 1e-4) * along


def _lead(others: Tensor) -> Loss:
    """``z_other - z_label``, negative while the image holds."""
    return lambda logits, labels: (
        logits.gather(1, others[:, None]) - logits.gather(1, labels[:, None])
    )[:, 0]
