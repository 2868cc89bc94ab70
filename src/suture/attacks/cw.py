"""The Carlini & Wagner attack (2017, arXiv:1608.04644): the smallest L2 change that fools."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from suture.attacks.base import ATTACKS, Attack, require
from suture.attacks.geometry import column, margin, row_sum
from suture.attacks.oracle import Oracle
from suture.attacks.steps import Rows
from suture.types import Norm

_NEVER = 1e10
_INSIDE = 0.999999
"""The authors' factor that keeps arctanh finite at 0 and 1."""


@ATTACKS.add("cw")
@dataclass(frozen=True, kw_only=True)
class CW(Attack):
    """Minimise ``‖x' - x‖₂² + c·max(margin + κ, 0)`` with Adam, and search for the right c.

    ``x' = (tanh(w) + 1)/2`` keeps the image in [0, 1] (paper, section V). It looks for a *small*
    perturbation: the default radius is unbounded. With a finite one an image is finished as soon
    as something within the radius fools the model, which is all that a robust accuracy asks.

    Args:
        binary_search_steps: values of c that are tried (authors: 9).
        steps: Adam steps per value of c, each one query (authors: 10 000).
        learning_rate: of Adam (authors: 0.01).
        initial_const: first c (authors: 0.001).
        confidence: κ, how far beyond the boundary a success must lie (authors: 0).
        abort_early: an image gives up a value of c when its loss fell by less than 0.01 % over a
            tenth of the steps (authors: on, for the batch as a whole).
    """

    norm: Norm = "l2"
    eps: float = math.inf
    binary_search_steps: int = 9
    steps: int = 10_000
    learning_rate: float = 1e-2
    initial_const: float = 1e-3
    confidence: float = 0.0
    abort_early: bool = True

    draws: ClassVar[bool] = False
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("binary_search_steps", "steps", "learning_rate", "initial_const"):
            require(getattr(self, name) > 0, f"{name} > 0", f"{name}={getattr(self, name)!r}")
        require(self.confidence >= 0, "confidence >= 0", f"confidence={self.confidence!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        best = images.clone()
        search = Rows(clean=images, rows=rows)
        search.shortest = torch.full_like(images[:, 0, 0, 0], _NEVER)
        search.const = torch.full_like(search.shortest, self.initial_const)
        search.low, search.high = torch.zeros_like(search.const), search.shortest.clone()
        for outer in range(self.binary_search_steps):
            if outer == self.binary_search_steps - 1 and self.binary_search_steps >= 10:
                search.const = search.high  # the authors' last try repeats the upper end
            hit = self._minimise(oracle, search, best)
            _next_const(search, hit)
            near = search.shortest <= self.eps**2 if math.isfinite(self.eps) else hit & False
            search.leave(near | ~oracle.can_ask(search.rows))
            if not len(search):
                break
        return best

    def _minimise(self, oracle: Oracle, search: Rows, best: Tensor) -> Tensor:
        """One value of c per image; writes to ``best``, returns who was fooled at this c."""
        hit = torch.zeros_like(search.const, dtype=torch.bool)
        state = Rows(clean=search.clean, rows=search.rows, const=search.const)
        state.owner, state.centre = state.place, _arctanh(search.clean)
        state.w, state.mean = state.centre, torch.zeros_like(search.clean)
        state.square = torch.zeros_like(search.clean)
        state.last = torch.full_like(search.const, float("inf"))
        for index in range(self.steps):
            gone = self._step(oracle, state, search, best, hit, index)
            state.leave(gone | ~oracle.can_ask(state.rows) if oracle.limited else gone)
            if not len(state):
                break
        return hit

    def _step(
        self, oracle: Oracle, state: Rows, search: Rows, best: Tensor, hit: Tensor, index: int
    ) -> Tensor:
        """Ask, remember, move by Adam; returns who gives up this value of c."""
        tanh = torch.tanh(state.w)
        here, start = (tanh + 1) / 2, (torch.tanh(state.centre) + 1) / 2
        logits, gradients, values = oracle.gradients(
            here, state.rows, [self._hinge(oracle.targeted)]
        )
        squared = row_sum((here - start).square())
        fooled = oracle.reached(logits, state.rows) & (values[0] <= 0)
        self._remember(fooled, squared, here, state, search, best)
        hit[state.owner[fooled]] = True
        slope = (2 * (here - start) + column(state.const) * gradients[0]) * (1 - tanh * tanh) / 2
        _adam(state, slope, index + 1, self.learning_rate)
        gone = fooled & (squared <= self.eps**2) if math.isfinite(self.eps) else fooled & False
        return gone | self._stalls(squared + state.const * values[0], state, index)

    def _hinge(self, targeted: bool):  # type: ignore[no-untyped-def]
        sign = -1.0 if targeted else 1.0
        return lambda logits, goals: (sign * margin(logits, goals) + self.confidence).clamp_min(0)

    def _stalls(self, loss: Tensor, state: Rows, index: int) -> Tensor:
        if not self.abort_early or index % max(1, self.steps // 10):
            return torch.zeros_like(loss, dtype=torch.bool)
        stalled = loss > state.last * 0.9999
        state.last = loss
        return stalled

    @staticmethod
    def _remember(
        fooled: Tensor, squared: Tensor, here: Tensor, state: Rows, search: Rows, best: Tensor
    ) -> None:
        shorter = fooled & (squared < search.shortest[state.owner])
        search.shortest[state.owner[shorter]] = squared[shorter]
        best[search.place[state.owner[shorter]]] = here[shorter]


def _next_const(search: Rows, hit: Tensor) -> None:
    """Bisection between the largest c that failed and the smallest that fooled; else c·10."""
    search.high = torch.where(hit, torch.minimum(search.high, search.const), search.high)
    search.low = torch.where(hit, search.low, torch.maximum(search.low, search.const))
    between = (search.low + search.high) / 2
    search.const = torch.where(search.high < _NEVER / 10, between, search.const * 10)


def _arctanh(images: Tensor) -> Tensor:
    inside = (images * 2 - 1) * _INSIDE
    # torch.atanh rounds differently at the end of a tensor than in its middle; log does not.
    return 0.5 * torch.log((1 + inside) / (1 - inside))


def _adam(state: Rows, slope: Tensor, step: int, rate: float) -> None:
    """One step of Adam with its usual constants, on ``state.w``."""
    state.mean = state.mean * 0.9 + slope * 0.1
    state.square = state.square * 0.999 + slope * slope * 0.001
    scale = rate * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    state.w = state.w - scale * state.mean / (state.square.sqrt() + 1e-8)
