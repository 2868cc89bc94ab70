"""Compiled twins of random search in windows; images are ``(k, channels, height, width)``."""

from __future__ import annotations

import numpy as np

from suture.attacks.kernels import jit

_ONE, _ZERO = np.float32(1.0), np.float32(0.0)


@jit
def _corner(draws, side, height, width):  # type: ignore[no-untyped-def]
    top = ((draws[0] & 0xFFFFFFFF) * (height - side + 1)) >> 32
    return top, ((draws[1] & 0xFFFFFFFF) * (width - side + 1)) >> 32


@jit
def put_square(clean, best, draws, side, eps, before):  # type: ignore[no-untyped-def]
    """``square_moves.edit_linf`` made in the best images; ``before`` takes what was there."""
    count, channels, height, width = clean.shape
    for k in range(count):
        top, left = _corner(draws[k], side, height, width)
        for c in range(channels):
            # The highest of the low 32 bits is the sign.
            step = eps if (draws[k, 2 + c] >> 31) & 1 else -eps
            for i in range(side):
                centre, row = clean[k, c, top + i], best[k, c, top + i]
                for j in range(side):
                    value = centre[left + j] + step
                    value = _ZERO if value < 0 else value
                    before[k, c, i, j] = row[left + j]
                    row[left + j] = _ONE if value > 1 else value


@jit
def take_square_back(best, draws, side, before, kept):  # type: ignore[no-untyped-def]
    """What was there before, in the images that are not kept."""
    count, channels, height, width = best.shape
    for k in range(count):
        if not kept[k]:
            top, left = _corner(draws[k], side, height, width)
            for c in range(channels):
                for i in range(side):
                    for j in range(side):
                        best[k, c, top + i, left + j] = before[k, c, i, j]


@jit
def write(images, index, values, kept=None):  # type: ignore[no-untyped-def]
    """Values ``(k, c, m)`` at the flat pixels ``index``, ``(k, m)``, of images that are not kept.

    Images are ``(k, channels, pixels)``.
    """
    for k in range(len(images)):
        if kept is None or not kept[k]:
            for c in range(images.shape[1]):
                for j in range(index.shape[1]):
                    images[k, c, index[k, j]] = values[k, c, j]


@jit
def accept(loss, done, lowest, kept):  # type: ignore[no-untyped-def]
    """Which losses are lower, or done with; these replace the lowest so far."""
    for k in range(len(loss)):
        kept[k] = loss[k] < lowest[k] or done[k]
        lowest[k] = loss[k] if kept[k] else lowest[k]
