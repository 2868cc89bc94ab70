"""The Jacobian saliency map attack (Papernot et al. 2016, arXiv:1511.07528)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from suture.attacks.base import ATTACKS, Attack, require
from suture.attacks.loss_kinds import Loss
from suture.attacks.oracle import Oracle
from suture.attacks.steps import Rows
from suture.types import Norm

_ROOM = 0.01
"""A feature that is this near to the end of its range is not worth a step."""


@ATTACKS.add("jsma")
@dataclass(frozen=True, kw_only=True)
class JSMA(Attack):
    """Two features at a time, those that raise the target most while the other classes fall.

    A pair (p, q) has ``α = ∂z_t/∂p + ∂z_t/∂q`` and ``β = Σ_{j≠t} (∂z_j/∂p + ∂z_j/∂q)``; the pair
    with the largest ``-αβ`` among those with α > 0 > β is moved by θ (paper, Algorithm 3). All
    pairs are compared, exactly. Features are channel values; the ``eps`` of "l0" counts pixels.

    Without targets each image is driven to its most likely wrong class, and any wrong class ends
    it.

    Args:
        theta: change per feature; negative values look for features to lower (paper: +1).
        gamma: share of features that may be changed (paper: 0.145).
    """

    norm: Norm = "l0"
    eps: float = math.inf
    theta: float = 1.0
    gamma: float = 0.145

    draws: ClassVar[bool] = False
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.theta != 0, "theta other than 0", f"theta={self.theta!r}")
        require(0 < self.gamma <= 1, "gamma in (0, 1]", f"gamma={self.gamma!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        found = images.clone()
        state = Rows(rows=rows, here=images)
        state.target = oracle.goals[rows]
        if not oracle.targeted:
            logits = oracle.logits(images, rows)
            state.target = logits.scatter(1, state.target[:, None], -math.inf).argmax(1)
        for _ in range(math.floor(images[0].numel() * self.gamma / 2)):
            gone = self._step(oracle, state)
            found[state.place[gone]] = state.here[gone]
            state.leave(gone)
            if not len(state):
                return found
            self._move(state)
        found[state.place] = state.here
        return found

    def _step(self, oracle: Oracle, state: Rows) -> Tensor:
        """Choose each image's pair; returns who is finished or has no pair left."""
        losses = [_target(state.target), _rest(state.target)]
        logits, (towards, away), _ = oracle.gradients(state.here, state.rows, losses)
        room = 1.0 - state.here if self.theta > 0 else state.here
        free = (room > _ROOM).flatten(1)
        sign = math.copysign(1.0, self.theta)
        state.pair, state.score = best_pairs(
            sign * towards.flatten(1), -sign * away.flatten(1), free
        )
        return oracle.finished(logits, state.rows) | ~(state.score > 0)

    def _move(self, state: Rows) -> None:
        flat = state.here.flatten(1)
        moved = (flat.gather(1, state.pair) + self.theta).clamp(0.0, 1.0)
        state.here = flat.scatter(1, state.pair, moved).reshape(state.here.shape)


def best_pairs(up: Tensor, down: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Per row, the pair p ≠ q with the largest ``(up_p + up_q)(down_p + down_q)``, both positive.

    Only features that at most one other free feature beats in both ``up`` and ``down`` can take
    part in a best pair, so only those (a few dozen) are paired. Ties go to the larger ``up``.

    Args:
        up, down: ``(k, d)``. free: bool ``(k, d)``, which features may be used.

    Returns:
        Indices ``(k, 2)`` and the product ``(k,)``, 0 where no pair has both sums positive.
    """
    up, down = up.masked_fill(~free, -math.inf), down.masked_fill(~free, -math.inf)
    up, order = up.sort(dim=1, descending=True, stable=True)
    down = down.gather(1, order)
    candidate = (down >= _second_best_before(down)) & torch.isfinite(up)
    width = max(2, int(candidate.sum(1).max()))
    chosen = candidate.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :width]
    usable = candidate.gather(1, chosen)
    alpha, beta = (_pair_sums(side.gather(1, chosen), usable) for side in (up, down))
    product = torch.where((alpha > 0) & (beta > 0), alpha * beta, torch.zeros_like(alpha))
    product.diagonal(dim1=1, dim2=2).zero_()
    score, flat = product.flatten(1).max(1)
    width = chosen.shape[1]
    pair = torch.stack(
        [
            chosen.gather(1, (flat // width)[:, None])[:, 0],
            chosen.gather(1, (flat % width)[:, None])[:, 0],
        ],
        1,
    )
    return order.gather(1, pair), score


def _pair_sums(values: Tensor, usable: Tensor) -> Tensor:
    values = values.masked_fill(~usable, -math.inf)
    return values[:, :, None] + values[:, None, :]


def _second_best_before(values: Tensor) -> Tensor:
    """The second largest of the values left of each place, by doubling (``-inf`` where none)."""
    pad = torch.full_like(values[:, :1], -math.inf)
    first, second = torch.cat([pad, values[:, :-1]], 1), torch.full_like(values, -math.inf)
    reach = 1
    while reach < values.shape[1]:
        left = [torch.cat([pad.expand(-1, reach), t[:, :-reach]], 1) for t in (first, second)]
        smaller = torch.minimum(first, left[0])
        second = torch.maximum(smaller, torch.maximum(second, left[1]))
        first = torch.maximum(first, left[0])
        reach *= 2
    return second


def _target(targets: Tensor) -> Loss:
    return lambda logits, _: logits.gather(1, targets[:, None])[:, 0]


def _rest(targets: Tensor) -> Loss:
    """Sum of all other logits."""
    return lambda logits, _: logits.scatter(1, targets[:, None], 0.0).sum(1)
