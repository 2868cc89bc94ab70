"""HopSkipJump: only the decision is seen (Chen, Jordan & Wainwright 2020, arXiv:1904.02144)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from suture.attacks.base import ATTACKS, Attack, require
from suture.attacks.geometry import column, distance, row_sum
from suture.attacks.oracle import Oracle
from suture.attacks.steps import Rows
from suture.rng import uniform
from suture.types import Knowledge, Norm

_AT_ONCE = 512
"""Probes that are built at a time; a matter of memory, not of results."""
_HALVINGS = 30


@ATTACKS.add("hop-skip-jump")
@dataclass(frozen=True, kw_only=True)
class HopSkipJump(Attack):
    """Walks along the decision boundary towards the image, from decisions alone.

    Start: a random image of another class, blended with the clean one. Then per step: estimate
    the boundary's normal from random probes, jump along it, bisect back (paper, Algorithm 2;
    a port of the authors' code). It looks for a *small* perturbation: the default radius is
    unbounded; with a finite one an image is finished as soon as it lies within.

    Args:
        steps: iterations (authors: 40).
        probes: for the normal in the first iteration; grows with √iteration (authors: 100).
        max_probes: (authors: 10 000).
        gamma: bisection stops at ``gamma/d^1.5`` (L2) or ``gamma/d²`` (L∞) (authors: 1).
        tries: random images looked at for a start (authors: 10 000); an image without one stays.
    """

    norm: Norm = "l2"
    eps: float = math.inf
    steps: int = 40
    probes: int = 100
    max_probes: int = 10_000
    gamma: float = 1.0
    tries: int = 100

    knowledge: ClassVar[Knowledge] = "black-box"
    decisions_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "probes", "max_probes", "gamma", "tries"):
            require(getattr(self, name) > 0, f"{name} > 0", f"{name}={getattr(self, name)!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        found = images.clone()
        state = self._begin(oracle, images, rows)
        for step in range(1, self.steps + 1):
            state.away = distance(self.norm, state.here - state.clean)
            found[state.place] = state.here
            near = (state.away <= self.eps) & math.isfinite(self.eps)
            state.leave(near | ~oracle.can_ask(state.rows))
            if not len(state):
                return found
            self._jump(oracle, state, self._normal(oracle, state, step), step)
        found[state.place] = state.here
        return found

    def _begin(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Rows:
        """Images of another class, bisected towards the clean ones; others are left out."""
        start, missing = images.clone(), torch.arange(len(images), device=images.device)
        pixels = torch.arange(images[0].numel(), device=images.device)[None]
        for attempt in range(self.tries):
            drawn = uniform(oracle.random_bits(rows[missing], 0, attempt, pixels))
            drawn = drawn.reshape(-1, *images.shape[1:])
            hit = oracle.reached(oracle.logits(drawn, rows[missing]), rows[missing])
            start[missing[hit]] = drawn[hit]
            missing = missing[~hit]
            if not len(missing):
                break
        state = Rows(clean=images, rows=rows, here=start)
        gone = torch.zeros_like(rows, dtype=torch.bool)
        gone[missing] = True
        state.leave(gone)
        if len(state):
            state.here = _bisect(oracle, state, _blend, torch.ones_like(state.here[:, 0, 0, 0]), 10)
            self._to_boundary(oracle, state)
        return state

    def _to_boundary(self, oracle: Oracle, state: Rows) -> None:
        values = state.here[0].numel()
        fine = self.gamma / values ** (1.5 if self.norm == "l2" else 2.0)
        state.before = distance(self.norm, state.here - state.clean)
        high = torch.ones_like(state.before) if self.norm == "l2" else state.before
        between = _blend if self.norm == "l2" else _cut
        state.here = _bisect(oracle, state, between, high, max(1, math.ceil(-math.log2(fine))))

    def _normal(self, oracle: Oracle, state: Rows, step: int) -> Tensor:
        """The direction in which probes change the decision most, of length 1 (L∞: signs)."""
        count = min(int(self.probes * math.sqrt(step)), self.max_probes)
        values = state.here[0].numel()
        radius = state.before * self.gamma / values
        radius = torch.full_like(radius, 0.1) if step == 1 else radius.clamp_min(1e-9)
        draws = _Draws(oracle, state.rows, step)
        plain, signed = torch.zeros_like(state.here), torch.zeros_like(state.here)
        votes = torch.zeros_like(radius)
        at_once = max(1, _AT_ONCE // len(state))
        for first in range(0, count, at_once):
            ways = draws.take(min(at_once, count - first), state.here, self.norm)
            for index, way in enumerate(ways):
                length = row_sum(way * way).sqrt()
                probe = (state.here + way * column(radius / length)).clamp(0.0, 1.0)
                ways[index] = (probe - state.here) / column(radius)
            probes = state.here[:, None] + torch.stack(ways, 1) * radius[:, None, None, None, None]
            logits = oracle.many(probes.clamp(0.0, 1.0), state.rows)
            vote = oracle.reached(logits, state.rows).to(votes.dtype) * 2.0 - 1.0
            for index, way in enumerate(ways):
                plain, signed = plain + way, signed + column(vote[:, index]) * way
                votes = votes + vote[:, index]
        mean = votes / count
        same = mean.abs() == 1.0
        normal = torch.where(column(same), column(mean) * plain, signed - column(mean) * plain)
        if self.norm == "linf":
            return normal.sign()
        return normal / column(distance("l2", normal).clamp_min(1e-12))

    def _jump(self, oracle: Oracle, state: Rows, normal: Tensor, step: int) -> None:
        """The longest halved step that stays on the wrong side, then back to the boundary."""
        length = state.away / math.sqrt(step)
        left = torch.arange(len(state), device=length.device)
        here = state.here.clone()
        for _ in range(_HALVINGS):
            moved = (state.here[left] + column(length[left]) * normal[left]).clamp(0.0, 1.0)
            owners = state.rows[left]
            fine = oracle.reached(oracle.logits(moved, owners), owners)
            here[left[fine]] = moved[fine]
            left = left[~fine]
            if not len(left):
                break
            length = length / 2.0
        state.here = here
        self._to_boundary(oracle, state)


Between = Callable[[Tensor, Tensor, Tensor], Tensor]


def _blend(clean: Tensor, far: Tensor, share: Tensor) -> Tensor:
    return clean + column(share) * (far - clean)


def _cut(clean: Tensor, far: Tensor, radius: Tensor) -> Tensor:
    return far.clamp(clean - column(radius), clean + column(radius))


def _bisect(oracle: Oracle, state: Rows, between: Between, high: Tensor, steps: int) -> Tensor:
    """The point nearest to the clean image that still reached the goal when asked."""
    low, best = torch.zeros_like(high), state.here
    for _ in range(steps):
        middle = (low + high) / 2
        point = between(state.clean, state.here, middle)
        hit = oracle.reached(oracle.logits(point, state.rows), state.rows)
        best = torch.where(column(hit), point, best)
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
    return best


class _Draws:
    """Random directions, one CPU generator per image, seeded by the image's own stream."""

    def __init__(self, oracle: Oracle, rows: Tensor, step: int) -> None:
        seeds = oracle.random_bits(rows, 1, torch.full_like(rows, step))
        self._generators = [
            torch.Generator().manual_seed(seed & (2**62 - 1)) for seed in seeds.tolist()
        ]

    def take(self, count: int, like: Tensor, norm: Norm) -> list[Tensor]:
        """The next directions, each shaped like the images: normal for L2, uniform for L∞."""
        return [
            torch.stack([self._one(g, like, norm) for g in self._generators]).to(like.device)
            for _ in range(count)
        ]

    @staticmethod
    def _one(generator: torch.Generator, like: Tensor, norm: Norm) -> Tensor:
        shape = like.shape[1:]
        if norm == "l2":
            return torch.randn(shape, generator=generator)
        return torch.rand(shape, generator=generator) * 2.0 - 1.0
