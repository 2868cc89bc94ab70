"""Fast adaptive boundary attack (Croce & Hein 2020, arXiv:1907.02044): the smallest change."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from suture.attacks import kernels, plane_kernels
from suture.attacks.base import ATTACKS, Attack, require
from suture.attacks.geometry import column, distance, margin, row_sum
from suture.attacks.loss_kinds import Loss
from suture.attacks.losses import ahead
from suture.attacks.oracle import Oracle
from suture.attacks.projections import to_hyperplane
from suture.attacks.steps import Rows
from suture.rng import normal, uniform
from suture.types import Norm

_DUAL: dict[Norm, Norm] = {"linf": "l1", "l2": "l2", "l1": "linf"}
_FAR = {"linf": 0.3, "l2": 1.0, "l1": 5.0}
"""The authors' radii of random starts, where neither ``eps`` nor a first success gives one."""
Losses = Callable[[Rows], list[Loss]]


@ATTACKS.add("fab")
@dataclass(frozen=True, kw_only=True)
class FAB(Attack):
    """Projections onto linearised boundaries, biased towards the image (paper, Algorithm 1).

    ``x ← (1 - α)(x + η·d(x)) + α(x₀ + η·d(x₀))``, where d(z) is the smallest move of z onto the
    boundary as linearised at x, within [0, 1], and ``α = min(‖d(x)‖/(‖d(x)‖ + ‖d(x₀)‖), α_max)``.
    From a point that reaches the goal it goes back: ``x ← x₀ + β(x - x₀)``. The smallest change of
    all steps is kept. With a finite ``eps`` an image leaves with the first one of at most eps,
    which is all that a robust accuracy asks.

    Args:
        steps: steps per start, two queries each.
        restarts: starts; the first at the image, others at random, at half the smallest radius.
        by_class: a run towards each of the ``classes`` most likely wrong classes (FAB-T: one
            gradient a step) instead of towards the nearest boundary (a gradient for every class).
            With targets given, every run is towards the boundary of the target.
        classes: target classes of ``by_class`` (authors: 9).
        alpha_max: largest bias towards the image.
        eta: η, the overshoot.
        beta: β, what is left of the change after a step back.
    """

    eps: float = math.inf
    steps: int = 100
    restarts: int = 1
    by_class: bool = False
    classes: int = 9
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "restarts", "classes"):
            require(getattr(self, name) >= 1, f"{name} >= 1", f"{name}={getattr(self, name)!r}")
        require(0 <= self.alpha_max <= 1, "alpha_max in [0, 1]", f"alpha_max={self.alpha_max!r}")
        require(self.eta >= 1, "eta >= 1", f"eta={self.eta!r}")
        require(0 < self.beta < 1, "beta in (0, 1)", f"beta={self.beta!r}")

    @property
    def random_start(self) -> bool:
        """Whether anything is drawn: the first start is the image itself."""
        return self.restarts > 1

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        found = images.clone()
        left = Rows(clean=images, rows=rows, best=images.clone())
        left.shortest = torch.full_like(images[:, 0, 0, 0], math.inf)
        for losses in self._boundaries(oracle, left):
            for start in range(self.restarts):
                self._descend(oracle, left, start, losses)
                found[left.place] = left.best
                left.leave(oracle.or_spent(left.shortest <= self._enough, left.rows))
                if not len(left):
                    return found
        return found

    @property
    def _enough(self) -> float:
        """The length that ends the search for an image; without a radius none does."""
        return self.eps if math.isfinite(self.eps) else -1.0

    def _boundaries(self, oracle: Oracle, left: Rows) -> list[Losses]:
        """For every run, the functions whose zeros are the boundaries it may go to."""
        if oracle.targeted:
            return [lambda _: [margin]]
        if not self.by_class:
            every = [_ahead(other) for other in range(oracle.classes)]
            return [lambda _: every]
        logits = oracle.logits(left.clean, left.rows)
        left.ranked = logits.argsort(dim=1, descending=True, stable=True)
        return [_ranked(rank) for rank in range(1, min(self.classes, oracle.classes - 1) + 1)]

    def _descend(self, oracle: Oracle, left: Rows, start: int, losses: Losses) -> None:
        """One start, for the images that are left; what it finds goes into ``left``."""
        state = Rows(**{k: v for k, v in vars(left).items() if k in ("clean", "rows", "ranked")})
        state.here = self._start(oracle, left, start)
        for _ in range(self.steps):
            normals, gaps = self._nearest(oracle, state, losses)
            state.here = self._moved(state, normals, gaps)
            reached = oracle.reached(oracle.logits(state.here, state.rows), state.rows)
            near = self._remember(state, left, reached)
            state.leave(oracle.or_spent(near, state.rows))
            if not len(state):
                return

    def _start(self, oracle: Oracle, left: Rows, start: int) -> Tensor:
        """The image; later a random direction, half as long as the smallest radius so far."""
        if start == 0:
            return left.clean
        pixels = torch.arange(left.clean[0].numel(), device=left.clean.device)[None]
        first = oracle.random_bits(left.rows, start, pixels)
        if self.norm == "linf":
            offset = uniform(first, -1.0, 1.0)
        else:
            second = oracle.random_bits(left.rows, start, pixels + pixels.shape[1])
            offset = normal(first, second)
        offset = offset.reshape(left.clean.shape)
        radius = left.shortest.clamp_max(self.eps)
        radius = radius.masked_fill(radius.isinf(), _FAR[self.norm])
        scale = 0.5 * radius / distance(self.norm, offset).clamp_min(1e-12)
        return (left.clean + offset * column(scale)).clamp(0.0, 1.0)

    def _nearest(self, oracle: Oracle, state: Rows, losses: Losses) -> tuple[Tensor, Tensor]:
        """Normal and gap of the nearest of the linearised boundaries (paper, Eq. 8)."""
        _, normals, gaps = oracle.gradients(state.here, state.rows, losses(state))
        if len(gaps) == 1:
            return normals[0], gaps[0]
        dual = _DUAL[self.norm]
        away = [
            gap.abs() / (distance(dual, normal_) + 1e-12)
            for gap, normal_ in zip(gaps, normals, strict=True)
        ]
        own = oracle.goals[state.rows][:, None]
        nearest = torch.stack(away, 1).scatter(1, own, math.inf).argmin(1)
        each = torch.arange(len(nearest), device=nearest.device)
        return torch.stack(normals, 1)[each, nearest], torch.stack(gaps, 1)[each, nearest]

    def _moved(self, state: Rows, normals: Tensor, gaps: Tensor) -> Tensor:
        """The biased step (paper, Eq. 9 to 11), clipped to [0, 1]."""
        given = (state.here, state.clean, normals, gaps)
        if self.norm == "l1" or not kernels.compiles(*given):
            return self._moved_plainly(*given)
        moved = torch.empty_like(state.here)
        numbers = (np.float32(self.alpha_max), np.float32(self.eta))
        plane_kernels.biased_step(
            self.norm == "l2", *kernels.flat(*given), *numbers, *kernels.flat(moved)
        )
        return moved

    def _moved_plainly(self, x: Tensor, centre: Tensor, normals: Tensor, gaps: Tensor) -> Tensor:
        clean_gaps = gaps + row_sum(normals * (centre - x))
        moves = to_hyperplane(
            self.norm,
            torch.cat([x, centre]),
            torch.cat([normals, normals]),
            torch.cat([gaps, clean_gaps]),
        )
        first, second = moves.split(len(gaps))
        lengths = distance(self.norm, moves).clamp_min(1e-8)
        own, other = lengths.split(len(gaps))
        alpha = column((own / (own + other)).clamp_max(self.alpha_max))
        near, far = x + self.eta * first, centre + self.eta * second
        return (near * (1.0 - alpha) + far * alpha).clamp(0.0, 1.0)

    def _remember(self, state: Rows, left: Rows, reached: Tensor) -> Tensor:
        """Keep what reached the goal with a smaller change than any before, and go back from it.

        Returns which images are near enough.
        """
        given = (state.here, state.clean, left.best, left.shortest)
        if self.norm == "l1" or not kernels.compiles(*given):
            return self._remember_plainly(state, left, reached)
        here, clean, best, shortest = kernels.flat(*given)
        near = torch.empty_like(reached)
        at, numbers = kernels.flat(reached, state.place, near), (self.beta, self._enough)
        plane_kernels.step_back(
            self.norm == "l2", here, clean, *at, *map(np.float32, numbers), best, shortest
        )
        return near

    def _remember_plainly(self, state: Rows, left: Rows, reached: Tensor) -> Tensor:
        lengths = distance(self.norm, state.here - state.clean)
        shorter = reached & (lengths < left.shortest[state.place])
        left.best[state.place[shorter]] = state.here[shorter]
        left.shortest[state.place[shorter]] = lengths[shorter]
        back = state.clean + (state.here - state.clean) * self.beta
        state.here = torch.where(column(reached), back, state.here)
        return left.shortest[state.place] <= self._enough


def _ahead(other: int) -> Loss:
    """``z_other - z_goal``, which is 0 on the boundary between the two."""
    return lambda logits, goals: logits[:, other] - logits.gather(1, goals[:, None])[:, 0]


def _ranked(rank: int) -> Losses:
    """Towards the class that was at this rank on the clean image."""
    return lambda state: [ahead(state.ranked[:, rank])]
