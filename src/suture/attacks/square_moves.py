"""Candidates of the Square Attack: the start, and one square changed, for L∞ and L2.

Every function takes ``draws``, int64 random bits ``(k, lanes)``, one row per image, and works on
all images at once, with sums that do not depend on the batch (``row_sum``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from suture.attacks import kernels, square_kernels
from suture.attacks.geometry import column, distance, row_sum
from suture.attacks.search import Change, Edit, Edits, applied, take
from suture.rng import integers
from suture.types import Norm

Moved = tuple[Change, Tensor]


@dataclass(frozen=True)
class SquareMoves:
    """What differs between norms.

    Attributes:
        lanes: ``lanes(clean, first)`` is how many draws an image needs.
        start: ``start(clean, eps, draws)``, the first candidates.
        edit: ``edit(clean, best, energy, eps, side, draws)``, what makes the next candidates of
            ``best``, and their squared L2 distance; ``energy`` is that of ``best``.
    """

    lanes: Callable[[Tensor, bool], int]
    start: Callable[[Tensor, float, Tensor], Tensor]
    edit: Callable[[Tensor, Tensor, Tensor, float, int, Tensor], Moved]


def energy_of(clean: Tensor, best: Tensor) -> Tensor:
    """Squared L2 distance, ``(k,)``."""
    delta = best - clean
    return row_sum(delta * delta)


def start_linf(clean: Tensor, eps: float, draws: Tensor) -> Tensor:
    """Vertical stripes of width one, each ±eps per channel (paper, section 4.2)."""
    k, channels, _, width = clean.shape
    up = integers(draws[:, : channels * width], 2).bool().reshape(k, channels, 1, width)
    return torch.where(up, (clean + eps).clamp_max(1.0), (clean - eps).clamp_min(0.0))


def propose_linf(clean: Tensor, best: Tensor, eps: float, side: int, draws: Tensor) -> Tensor:
    """``best`` with one square set to ±eps per channel."""
    return applied(best, edit_linf(clean, best, best, eps, side, draws)[0])


def edit_linf(
    clean: Tensor, best: Tensor, energy: Tensor, eps: float, side: int, draws: Tensor
) -> Moved:
    """One square set to ±eps per channel.

    Algorithm 2 adds ±2·eps to the square and projects; from inside the ball that always lands on
    its border, which is written here directly.
    """
    if kernels.compiles(clean, best):
        return _CompiledSquare(clean, eps, side, draws), energy
    channels = clean.shape[1]
    index, _ = _window(draws[:, 0], draws[:, 1], side, clean)
    step = _signs(draws[:, 2 : 2 + channels])[:, :, None] * eps
    return Edits(Edit(index, (take(clean, index) + step).clamp(0.0, 1.0))), energy


class _CompiledSquare:
    """The change of ``edit_linf``: no index and no values are laid out."""

    def __init__(self, clean: Tensor, eps: float, side: int, draws: Tensor) -> None:
        self._clean, self._eps = clean, np.float32(eps)
        self._side, self._draws = side, draws.numpy()
        self._before = np.empty((*clean.shape[:2], side, side), np.float32)

    def make(self, images: Tensor) -> None:
        where = (self._draws, self._side)
        square_kernels.put_square(
            self._clean.numpy(), images.numpy(), *where, self._eps, self._before
        )

    def undo(self, images: Tensor, kept: Tensor) -> None:
        where = (self._draws, self._side)
        square_kernels.take_square_back(images.numpy(), *where, self._before, kept.numpy())


def column4(values: Tensor) -> Tensor:
    """``(k, c)`` as ``(k, c, 1, 1)``."""
    return values[:, :, None, None]


def start_l2(clean: Tensor, eps: float, draws: Tensor) -> Tensor:
    """A 5 × 5 grid of bumps with random signs, scaled to the ball (paper, section 4.3).

    As in the authors' code each bump stands upright or is turned.
    """
    return _to_sphere(clean, tiled(clean, draws), eps)


def tiled(clean: Tensor, draws: Tensor, norm: Norm = "l2") -> Tensor:
    """The grid of bumps, ``(k, c, h, w)``."""
    k, channels, height, width = clean.shape
    side = max(1, height // 5)
    rows, columns = height // side, width // side
    tiles = rows * columns
    signs = _signs(draws[:, : channels * tiles]).reshape(k, channels, rows, columns)
    signs = signs.repeat_interleave(side, 2).repeat_interleave(side, 3)
    turned = (draws[:, :tiles] < 0).reshape(k, 1, rows, columns)  # a bit that signs leave unused
    turned = turned.repeat_interleave(side, 2).repeat_interleave(side, 3)
    upright = bump(side, norm).to(clean.device)
    bumps = torch.where(turned, upright.T.repeat(rows, columns), upright.repeat(rows, columns))
    offset_rows, offset_columns = (height - rows * side) // 2, (width - columns * side) // 2
    delta = torch.zeros_like(clean)
    delta[
        :,
        :,
        offset_rows : offset_rows + rows * side,
        offset_columns : offset_columns + columns * side,
    ] = signs * bumps
    return delta


def propose_l2(clean: Tensor, best: Tensor, eps: float, side: int, draws: Tensor) -> Tensor:
    """``best`` with the perturbation of one square moved into another and reshaped."""
    return applied(best, edit_l2(clean, best, energy_of(clean, best), eps, side, draws)[0])


def edit_l2(
    clean: Tensor, best: Tensor, energy: Tensor, eps: float, side: int, draws: Tensor
) -> Moved:
    """Move the perturbation of one square into another and reshape it (paper, Algorithm 3).

    What the first square gets is what both held plus what the ball still leaves, so the length is
    eps again; Algorithm 3's rescaling of the whole image is by 1, up to rounding and clipping.
    """
    channels, height, width = clean.shape[1:]
    side = min(max(3, side + 1 - side % 2), height, width)
    first, second, apart = two_windows(draws, side, clean)
    here, there = take(clean, first), take(clean, second)
    now, then = take(best, first), take(best, second)
    window = now - here
    emptied = (then - there) * apart[:, None]
    freed = channel_sum(window.square()) + channel_sum(emptied.square())
    spare = (eps**2 - energy).clamp_min(0.0) / channels
    shape = shapes(side, draws).flatten(2)
    shape = shape + window / (channel_sum(window.square()).sqrt() + 1e-10)[:, :, None]
    scale = (spare[:, None] + freed).sqrt() / channel_sum(shape.square()).sqrt().clamp_min(1e-10)
    values = (here + shape * scale[:, :, None]).clamp(0.0, 1.0)
    energy = energy - row_sum(freed) + row_sum((values - here).square())
    return Edits(Edit(second, there, then), Edit(first, values, now)), energy


def two_windows(draws: Tensor, side: int, clean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Flat pixels of two squares per image; 1 for those of the second that the first has not."""
    first, corner = _window(draws[:, 0], draws[:, 1], side, clean)
    second, other = _window(draws[:, 2], draws[:, 3], side, clean)
    return first, second, _outside(other, corner, side)


def _window(
    top_draw: Tensor, left_draw: Tensor, side: int, clean: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Flat pixel indices ``(k, side²)`` of one square per image, and its upper left corner."""
    height, width = clean.shape[2:]
    top, left = integers(top_draw, height - side + 1), integers(left_draw, width - side + 1)
    return (top * width + left)[:, None] + _grid(side, width, clean.device), (top, left)


@cache
def _grid(side: int, width: int, device: torch.device) -> Tensor:
    steps = torch.arange(side, device=device)
    return (steps[:, None] * width + steps).flatten()


def _outside(corner: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], side: int) -> Tensor:
    """1 for the pixels ``(k, side²)`` of the square at ``corner`` that are not in the other."""
    steps = torch.arange(side, device=corner[0].device)
    offsets = [mine - its for mine, its in zip(corner, other, strict=True)]
    within = [(steps >= -by[:, None]) & (steps < side - by[:, None]) for by in offsets]
    return (~(within[0][:, :, None] & within[1][:, None, :])).flatten(1).to(torch.float32)


def shapes(side: int, draws: Tensor, norm: Norm = "l2") -> Tensor:
    """Signed bumps ``(k, channels, side, side)``, upright or turned per image."""
    turned = integers(draws[:, 4], 2).bool()
    upright = bump(side, norm).to(draws.device)
    shape = torch.where(turned[:, None, None], upright.T, upright)
    return shape[:, None] * column4(_signs(draws[:, 5:]))


def channel_sum(window: Tensor) -> Tensor:
    """Sum per image and channel, ``(k, c)``."""
    k, channels = window.shape[:2]
    return row_sum(window.reshape(k * channels, -1)).reshape(k, channels)


def _signs(draws: Tensor) -> Tensor:
    return integers(draws, 2).to(torch.float32) * 2.0 - 1.0


def _to_sphere(clean: Tensor, delta: Tensor, eps: float) -> Tensor:
    length = distance("l2", delta).clamp_min(1e-12)
    return (clean + delta * column(eps / length)).clamp(0.0, 1.0)


@cache
def bump(side: int, norm: Norm = "l2") -> Tensor:
    """η of the paper (Eq. 2): two opposite pyramids side by side, of norm 1, ``(s, s)``.

    In L1 the pyramids are steeper (authors' code).
    """
    order, power = {"l2": (2, 2), "l1": (1, 4)}[norm]
    shape = torch.zeros(side, side)
    shape[: side // 2] = _pyramid(side // 2, side, power)
    shape[side // 2 :] = -_pyramid(side - side // 2, side, power)
    return shape / shape.norm(p=order).clamp_min(1e-12)


def _pyramid(height: int, width: int, power: int) -> Tensor:
    """Nested rectangles around the centre, the i-th adding 1/i² (or another power)."""
    shape = torch.zeros(height, width)
    middle_row, middle_column = height // 2, width // 2
    for layer in range(max(middle_row, middle_column) + 1):
        rows = slice(max(middle_row - layer, 0), middle_row + layer + 1)
        columns = slice(max(middle_column - layer, 0), middle_column + layer + 1)
        shape[rows, columns] += 1.0 / (layer + 1) ** power
    return shape


def _lanes_linf(clean: Tensor, first: bool) -> int:
    channels, _, width = clean.shape[1:]
    return int(channels * width if first else 2 + channels)


def lanes_l2(clean: Tensor, first: bool) -> int:
    channels, height, width = clean.shape[1:]
    side = max(1, height // 5)
    return int(channels * (height // side) * (width // side) if first else 5 + channels)


MOVES = {
    "linf": SquareMoves(_lanes_linf, start_linf, edit_linf),
    "l2": SquareMoves(lanes_l2, start_l2, edit_l2),
}
