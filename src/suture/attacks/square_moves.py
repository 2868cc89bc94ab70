"""Candidates of the Square Attack: the start, and one square changed, for L∞ and L2.

Every function takes ``draws``, int64 random bits ``(k, lanes)``, one row per image, and works on
all images at once, with sums that do not depend on the batch (``row_sum``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from suture.attacks.geometry import column, distance, row_sum
from suture.rng import integers


@dataclass(frozen=True)
class Moves:
    """What differs between norms; ``lanes(clean, first)`` is how many draws an image needs."""

    lanes: Callable[[Tensor, bool], int]
    start: Callable[[Tensor, float, Tensor], Tensor]
    propose: Callable[[Tensor, Tensor, float, int, Tensor], Tensor]


def _limits(clean: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return (clean - eps).clamp_min(0.0), (clean + eps).clamp_max(1.0)


def start_linf(clean: Tensor, eps: float, draws: Tensor) -> Tensor:
    """Vertical stripes of width one, each ±eps per channel (paper, section 4.2)."""
    k, channels, _, width = clean.shape
    up = integers(draws[:, : channels * width], 2).bool().reshape(k, channels, 1, width)
    lower, upper = _limits(clean, eps)
    return torch.where(up, upper, lower)


def propose_linf(clean: Tensor, best: Tensor, eps: float, side: int, draws: Tensor) -> Tensor:
    """One square set to ±eps per channel.

    Algorithm 2 adds ±2·eps to the square and projects; from inside the ball that always lands on
    its border, which is written here directly.
    """
    channels, height, width = clean.shape[1:]
    top, left = integers(draws[:, 0], height - side + 1), integers(draws[:, 1], width - side + 1)
    up = column4(integers(draws[:, 2 : 2 + channels], 2).bool())
    inside = _square_mask(top, left, side, height, width)
    lower, upper = _limits(clean, eps)
    return torch.where(inside, torch.where(up, upper, lower), best)


def column4(values: Tensor) -> Tensor:
    """``(k, c)`` as ``(k, c, 1, 1)``."""
    return values[:, :, None, None]


def _square_mask(top: Tensor, left: Tensor, side: int, height: int, width: int) -> Tensor:
    rows = torch.arange(height, device=top.device) - top[:, None]
    columns = torch.arange(width, device=top.device) - left[:, None]
    inside_rows, inside_columns = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    return (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]


def start_l2(clean: Tensor, eps: float, draws: Tensor) -> Tensor:
    """A 5 × 5 grid of bumps with random signs, scaled to the ball (paper, section 4.3)."""
    k, channels, height, width = clean.shape
    side = max(1, height // 5)
    rows, columns = height // side, width // side
    signs = _signs(draws[:, : channels * rows * columns]).reshape(k, channels, rows, columns)
    tiles = signs.repeat_interleave(side, 2).repeat_interleave(side, 3)
    bumps = bump(side).to(clean.device).repeat(rows, columns)
    offset_rows, offset_columns = (height - rows * side) // 2, (width - columns * side) // 2
    delta = torch.zeros_like(clean)
    delta[
        :,
        :,
        offset_rows : offset_rows + rows * side,
        offset_columns : offset_columns + columns * side,
    ] = tiles * bumps
    return _to_sphere(clean, delta, eps)


def propose_l2(clean: Tensor, best: Tensor, eps: float, side: int, draws: Tensor) -> Tensor:
    """Move the perturbation of one square into another and reshape it (paper, Algorithm 3)."""
    channels, height, width = clean.shape[1:]
    side = min(max(3, side + 1 - side % 2), height, width)
    delta = (best - clean).flatten(2)
    spare = (eps**2 - row_sum(delta * delta)).clamp_min(0.0) / channels
    first = _window(draws[:, 0], draws[:, 1], side, clean)
    second = _window(draws[:, 2], draws[:, 3], side, clean)
    window = _take(delta, first)
    freed = _channel_sum(window) + _channel_sum(_take(delta, second))
    shape = _shapes(side, draws).flatten(2)
    shape = shape + window / (_channel_sum(window).sqrt() + 1e-10)[:, :, None]
    scale = (spare[:, None] + freed).sqrt() / _channel_sum(shape).sqrt().clamp_min(1e-10)
    delta.scatter_(2, first, shape * scale[:, :, None])
    return _to_sphere(clean, delta.reshape(clean.shape), eps)


def _window(top_draw: Tensor, left_draw: Tensor, side: int, clean: Tensor) -> Tensor:
    """Flat pixel indices ``(k, channels, side²)`` of one square per image."""
    channels, height, width = clean.shape[1:]
    top, left = integers(top_draw, height - side + 1), integers(left_draw, width - side + 1)
    steps = torch.arange(side, device=clean.device)
    grid = (steps[:, None] * width + steps).flatten()
    index = (top * width + left)[:, None] + grid
    return index[:, None].expand(-1, channels, -1)


def _take(delta: Tensor, index: Tensor) -> Tensor:
    """The window's values; it is zero in ``delta`` afterwards, so that nothing counts twice."""
    values = delta.gather(2, index)
    delta.scatter_(2, index, 0.0)
    return values


def _shapes(side: int, draws: Tensor) -> Tensor:
    """Signed bumps ``(k, channels, side, side)``, upright or turned per image."""
    turned = integers(draws[:, 4], 2).bool()
    upright = bump(side).to(draws.device)
    shape = torch.where(turned[:, None, None], upright.T, upright)
    return shape[:, None] * column4(_signs(draws[:, 5:]))


def _channel_sum(window: Tensor) -> Tensor:
    """Sum of squares per image and channel, ``(k, c)``."""
    k, channels = window.shape[:2]
    return row_sum((window * window).reshape(k * channels, -1)).reshape(k, channels)


def _signs(draws: Tensor) -> Tensor:
    return integers(draws, 2).to(torch.float32) * 2.0 - 1.0


def _to_sphere(clean: Tensor, delta: Tensor, eps: float) -> Tensor:
    length = distance("l2", delta).clamp_min(1e-12)
    return (clean + delta * column(eps / length)).clamp(0.0, 1.0)


@cache
def bump(side: int) -> Tensor:
    """η of the paper (Eq. 2): two opposite pyramids side by side, unit L2 norm, ``(s, s)``."""
    shape = torch.zeros(side, side)
    shape[: side // 2] = _pyramid(side // 2, side)
    shape[side // 2 :] = -_pyramid(side - side // 2, side)
    return shape / shape.norm().clamp_min(1e-12)


def _pyramid(height: int, width: int) -> Tensor:
    """Nested rectangles around the centre, the i-th adding 1/i²."""
    shape = torch.zeros(height, width)
    middle_row, middle_column = height // 2, width // 2
    for layer in range(max(middle_row, middle_column) + 1):
        rows = slice(max(middle_row - layer, 0), middle_row + layer + 1)
        columns = slice(max(middle_column - layer, 0), middle_column + layer + 1)
        shape[rows, columns] += 1.0 / (layer + 1) ** 2
    return shape


def _lanes_linf(clean: Tensor, first: bool) -> int:
    channels, _, width = clean.shape[1:]
    return int(channels * width if first else 2 + channels)


def _lanes_l2(clean: Tensor, first: bool) -> int:
    channels, height, width = clean.shape[1:]
    side = max(1, height // 5)
    return int(channels * (height // side) * (width // side) if first else 5 + channels)


MOVES = {
    "linf": Moves(_lanes_linf, start_linf, propose_linf),
    "l2": Moves(_lanes_l2, start_l2, propose_l2),
}
