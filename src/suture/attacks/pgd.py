"""Projected gradient descent (Madry et al. 2018, arXiv:1706.06083)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from suture.attacks.base import Attack, require, require_finite_eps
from suture.attacks.geometry import column, distance, project
from suture.attacks.oracle import Oracle
from suture.rng import normal, uniform
from suture.types import Knowledge


@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Steps along the loss gradient, projected back into the ball.

    ``x ← Π(x + α·sign(∇ℓ))`` for L∞, ``x ← Π(x + α·∇ℓ/‖∇ℓ‖₂)`` for L2, with ℓ the cross entropy.
    An image leaves the batch as soon as a query finds it misclassified.

    Args:
        steps: gradient steps per restart, each one query (times ``eot``).
        step_size: α; ``None`` for ``2.5·eps/steps``, which can reach the boundary from anywhere
            (Madry et al., section 5).
        restarts: independent starts; later ones only for images that still hold.
        random_start: start uniformly in the ball rather than at the image.
    """

    steps: int = 40
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True

    knowledge: ClassVar[Knowledge] = "white-box"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite_eps(self.eps, "PGD")
        require(self.steps >= 1, "steps >= 1", f"steps={self.steps!r}")
        require(self.restarts >= 1, "restarts >= 1", f"restarts={self.restarts!r}")
        positive = self.step_size is None or self.step_size > 0
        require(positive, "step_size > 0 or None", f"step_size={self.step_size!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        best = images.clone()
        active = torch.arange(len(images), device=images.device)
        for restart in range(self.restarts):
            found, done = self._descend(oracle, images[active], rows[active], restart)
            best[active] = found
            active = active[~done]
            if not len(active):
                break
        return best

    def _descend(
        self, oracle: Oracle, clean: Tensor, rows: Tensor, restart: int
    ) -> tuple[Tensor, Tensor]:
        """One start: the last iterate or the first success, and which images succeeded."""
        step = 2.5 * self.eps / self.steps if self.step_size is None else self.step_size
        current = self._start(oracle, clean, rows, restart)
        done = torch.zeros_like(rows, dtype=torch.bool)
        sign = -1.0 if oracle.targeted else 1.0
        for index in range(self.steps + 1):
            active = (~done).nonzero()[:, 0]
            if not len(active):
                break
            here, owners = current[active], rows[active]
            if index == self.steps:
                logits = oracle.logits(here, owners)
                done[active] = oracle.reached(logits, owners)
                break
            logits, gradient = oracle.gradient(here, owners, _loss)
            reached = oracle.reached(logits, owners)
            done[active] = reached
            moved = here + sign * step * self._direction(gradient)
            moved = project(self.norm, self.eps, clean[active], moved)
            current[active] = torch.where(column(reached), here, moved)
        return current, done

    def _start(self, oracle: Oracle, clean: Tensor, rows: Tensor, restart: int) -> Tensor:
        if not self.random_start:
            return clean.clone()
        pixels = torch.arange(clean[0].numel(), device=clean.device)
        first = oracle.random_bits(rows, restart, pixels[None])
        if self.norm == "linf":
            offset = uniform(first, -self.eps, self.eps).reshape(clean.shape)
            return project("linf", self.eps, clean, clean + offset)
        offset = normal(first, oracle.random_bits(rows, restart, pixels[None] + len(pixels)))
        offset = offset.reshape(clean.shape)
        share = uniform(oracle.random_bits(rows, restart, 2 * len(pixels)))
        length = self.eps * share.pow(1.0 / len(pixels)) / distance("l2", offset)
        return project("l2", self.eps, clean, clean + offset * column(length))

    def _direction(self, gradient: Tensor) -> Tensor:
        if self.norm == "linf":
            return gradient.sign()
        return gradient / column(distance("l2", gradient).clamp_min(1e-12))


def _loss(logits: Tensor, goals: Tensor) -> Tensor:
    return cross_entropy(logits, goals, reduction="none")
