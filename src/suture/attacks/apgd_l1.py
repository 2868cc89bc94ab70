"""Auto-PGD in L1: sparse steps that set their own sparsity (Croce & Hein 2021, arXiv:2103.01208).

The ball is that of L1 and the box [0, 1] together, as in the paper; so is the projection.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from suture.attacks.ascent import LossOf, ask, drop, remember
from suture.attacks.geometry import column
from suture.attacks.oracle import Oracle
from suture.attacks.projections import to_l1_ball
from suture.attacks.steps import Rows
from suture.rng import normal

_SPARSER, _SHRINK, _LEAST = 1.5, 1.5, 10.0
"""A step moves this many times fewer entries than are changed; it falls by this, to eps/this."""
_PERIOD = 0.04
_FIRST = 0.2


def ascend_l1(
    oracle: Oracle,
    left: Rows,
    start: int,
    loss_of: LossOf,
    *,
    eps: float,
    steps: int,
    decreasing: bool,
) -> tuple[Tensor, Tensor]:
    """One start: the first success or the point of highest loss, and who is finished.

    Args:
        left: clean images, their rows, and what ``loss_of`` needs.
        start: its number, for the random direction that it begins with.
        decreasing: three radii, 3·eps, 2·eps and eps, with 30, 30 and 40 % of the steps; each
            begins at the best point of the one before (paper, section 4.3).
    """
    found, done = left.clean.clone(), torch.zeros_like(left.rows, dtype=torch.bool)
    state = Rows(**{k: v for k, v in vars(left).items() if k != "place"})
    state.best = left.clean + _direction(oracle, left, start)
    for factor, count in _stages(steps) if decreasing else [(1, steps)]:
        state.here = to_l1_ball(factor * eps, state.clean, state.best)
        state.top = torch.full_like(state.here[:, 0, 0, 0], -math.inf)
        _begin(state, factor * eps, sparse=decreasing)
        for index in range(count + 1):
            ask(oracle, state, loss_of)
            gone = oracle.finished(state.logits, state.rows) & (factor == 1)
            drop(state, oracle.or_spent(gone, state.rows), found, done)
            if not len(state):
                return found, done
            remember(state)
            if index and index % max(int(_PERIOD * count), 1) == 0:
                _check(state, factor * eps)
            if index < count:
                state.here = _moved(state, factor * eps)
    found[state.place] = state.best
    return found, done


def _stages(steps: int) -> list[tuple[int, int]]:
    third = math.ceil(0.3 * steps)
    return [(3, third), (2, third), (1, max(steps - 2 * third, 0))]


def _direction(oracle: Oracle, left: Rows, start: int) -> Tensor:
    pixels = torch.arange(left.clean[0].numel(), device=left.clean.device)[None]
    first = oracle.random_bits(left.rows, start, pixels)
    second = oracle.random_bits(left.rows, start, pixels + pixels.shape[1])
    return normal(first, second).reshape(left.clean.shape)


def _begin(state: Rows, eps: float, sparse: bool) -> None:
    """Step eps; as many entries as a projected start has, or a fifth of all."""
    state.step = torch.full_like(state.top, eps)
    total = state.here[0].numel()
    state.changed = _changed(state.here, state.clean)
    state.share = state.changed / total / _SPARSER
    if not sparse:
        state.changed = torch.full_like(state.step, total)
        state.share = torch.full_like(state.step, _FIRST)


def _changed(images: Tensor, clean: Tensor) -> Tensor:
    return (images != clean).flatten(1).sum(1).to(clean.dtype)


def _check(state: Rows, eps: float) -> None:
    """Sparser steps where the best point is sparser; else shorter ones (paper, Algorithm 1)."""
    changed = _changed(state.best, state.clean)
    sparser = changed / state.changed < 0.95
    state.share = changed / state.here[0].numel() / _SPARSER
    step = torch.where(sparser, torch.full_like(state.step, eps), state.step / _SHRINK)
    state.step = step.clamp(eps / _LEAST, eps)
    state.changed = changed
    state.here = torch.where(column(sparser), state.best, state.here)
    state.gradient = torch.where(column(sparser), state.best_gradient, state.gradient)


def _moved(state: Rows, eps: float) -> Tensor:
    """A step along the signs of the largest entries, then the nearest point of ball and box."""
    sizes = state.gradient.abs().flatten(1)
    total = sizes.shape[1]
    rank = ((1.0 - state.share) * total).clamp(0, total - 1).long()
    least = sizes.sort(dim=1).values.gather(1, rank[:, None])
    signs = state.gradient.sign() * (sizes >= least).reshape(state.here.shape)
    number = signs.ne(0).flatten(1).sum(1).to(sizes.dtype)
    return to_l1_ball(eps, state.clean, state.here + signs * column(state.step / (number + 1e-10)))
