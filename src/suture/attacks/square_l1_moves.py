"""Candidates of the Square Attack for L1 (Croce & Hein 2021, arXiv:2103.01208, appendix B)."""

from __future__ import annotations

import torch
from torch import Tensor

from suture.attacks.geometry import row_sum
from suture.attacks.projections import to_l1_ball
from suture.attacks.search import Edit, Edits, put, take
from suture.attacks.square_moves import (
    Moved,
    SquareMoves,
    channel_sum,
    lanes_l2,
    shapes,
    tiled,
    two_windows,
)

_POWER = 4


def start_l1(clean: Tensor, eps: float, draws: Tensor) -> Tensor:
    """A grid of bumps with random signs, moved into ball and box together."""
    return to_l1_ball(eps, clean, clean + tiled(clean, draws, "l1"))


def edit_l1(
    clean: Tensor, best: Tensor, energy: Tensor, eps: float, side: int, draws: Tensor
) -> Moved:
    """Move the perturbation of one square into another and reshape it, as in L2.

    The whole image goes back into ball and box together, so the edit is of the whole image.
    """
    channels, height, width = clean.shape[1:]
    side = min(max(3, side + 1 - side % 2), height, width)
    first, second, apart = two_windows(draws, side, clean)
    here = take(clean, first)
    window = take(best, first) - here
    emptied = (take(best, second) - take(clean, second)) * apart[:, None]
    freed = channel_sum(window.abs()) + channel_sum(emptied.abs())
    spare = (eps - row_sum((best - clean).abs())).clamp_min(0.0) / channels
    shape = shapes(side, draws, "l1").flatten(2)
    shape = shape + window / (channel_sum(window.abs()) + 1e-12)[:, :, None]
    length = channel_sum(shape.abs()).clamp_min(1e-12)
    scale = (spare[:, None] + freed) * channels / length
    moved = best.clone(memory_format=torch.contiguous_format)
    put(moved, second, take(clean, second))
    put(moved, first, here + shape * scale[:, :, None])
    values = to_l1_ball(eps, clean, moved).flatten(2)
    every = torch.arange(height * width, device=clean.device).expand(len(clean), -1)
    return Edits(Edit(every, values, best.flatten(2).clone())), energy


MOVES_L1 = SquareMoves(lanes_l2, start_l1, edit_l1)
