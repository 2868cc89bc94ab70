"""SPSA: gradients from differences of random probes (Uesato et al. 2018, arXiv:1802.05666)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from suture.attacks.base import ATTACKS, Attack, require, require_finite_eps
from suture.attacks.geometry import column, margin, project
from suture.attacks.oracle import Oracle
from suture.attacks.steps import Rows
from suture.types import Knowledge

_AT_ONCE = 512
"""Probes that are built at a time; a matter of memory, not of results."""


@ATTACKS.add("spsa")
@dataclass(frozen=True, kw_only=True)
class SPSA(Attack):
    """Adam on a gradient estimated from pairs of probes, projected back into the ball.

    ``g = mean of (ℓ(x + δv) - ℓ(x - δv))/(2δ) · v`` over random signs v, ℓ the margin (paper,
    Algorithm 1; defaults of the authors' implementation in CleverHans).

    Args:
        steps: Adam steps, each ``samples`` queries and one for the new image (authors: 100).
        samples: probes per step, an even number (authors: 128).
        delta: δ (authors: 0.01).
        learning_rate: of Adam (authors: 0.01).
    """

    steps: int = 100
    samples: int = 128
    delta: float = 0.01
    learning_rate: float = 0.01

    knowledge: ClassVar[Knowledge] = "black-box"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite_eps(self.eps, "SPSA")
        require(self.steps >= 1, "steps >= 1", f"steps={self.steps!r}")
        even = self.samples >= 2 and self.samples % 2 == 0
        require(even, "an even number of samples", f"samples={self.samples!r}")
        require(self.delta > 0, "delta > 0", f"delta={self.delta!r}")
        require(self.learning_rate > 0, "learning_rate > 0", f"{self.learning_rate!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        found = images.clone()
        state = Rows(clean=images, rows=rows, here=images)
        state.mean, state.square = torch.zeros_like(images), torch.zeros_like(images)
        for step in range(self.steps):
            self._move(state, self._estimate(oracle, state, step), step + 1)
            logits = oracle.logits(state.here, state.rows)
            gone = oracle.finished(logits, state.rows)
            found[state.place[gone]] = state.here[gone]
            state.leave(gone)
            if not len(state):
                return found
        found[state.place] = state.here
        return found

    def _estimate(self, oracle: Oracle, state: Rows, step: int) -> Tensor:
        """The estimated gradient of the loss, to go down."""
        total = torch.zeros_like(state.here)
        pairs, at_once = self.samples // 2, max(1, _AT_ONCE // (2 * len(state)))
        sign = -1.0 if oracle.targeted else 1.0
        for first in range(0, pairs, at_once):
            chosen = range(first, min(first + at_once, pairs))
            ways = torch.stack([_signs(oracle, state, step, pair) for pair in chosen], 1)
            probes = torch.stack([ways, -ways], 2).flatten(1, 2) * self.delta
            logits = oracle.many((state.here[:, None] + probes).clamp(0.0, 1.0), state.rows)
            goals = oracle.goals[state.rows].repeat_interleave(logits.shape[1])
            values = margin(logits.flatten(0, 1), goals).reshape(len(state), -1, 2)
            slopes = sign * (values[:, :, 0] - values[:, :, 1]) / (2 * self.delta)
            for index in range(len(chosen)):
                total = total + column(slopes[:, index]) * ways[:, index]
        return total / pairs

    def _move(self, state: Rows, gradient: Tensor, step: int) -> None:
        state.mean = state.mean * 0.9 + gradient * 0.1
        state.square = state.square * 0.999 + gradient * gradient * 0.001
        rate = self.learning_rate * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        moved = state.here - rate * state.mean / (state.square.sqrt() + 1e-8)
        state.here = project(self.norm, self.eps, state.clean, moved)


def _signs(oracle: Oracle, state: Rows, step: int, pair: int) -> Tensor:
    """±1 per value of each image, 32 of them from one draw."""
    count = state.here[0].numel()
    words = torch.arange(-(-count // 32), device=state.here.device)[None]
    bits = oracle.random_bits(state.rows, step, pair, words)
    shifts = torch.arange(32, device=bits.device)
    signs = ((bits[:, :, None] >> shifts) & 1).flatten(1)[:, :count]
    return (signs * 2 - 1).to(state.here.dtype).reshape(state.here.shape)
