"""Loops over inputs and regions: which are close, which are most similar.

As tensor operations each takes several passes over fresh memory, which costs more than the
arithmetic.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, error_model="numpy", nogil=True, inline="always")
def _add(total, row, factor, table, first, last):  # type: ignore[no-untyped-def]
    """``total[j] += factor · row @ table[:, j]`` for the columns from first to last, four rows of
    the table at a time: the sum then stays in registers for longer."""
    many = len(row) - len(row) % 4
    for f in range(0, many, 4):
        a, b = factor * row[f], factor * row[f + 1]
        c, d = factor * row[f + 2], factor * row[f + 3]
        one, two, three, four = table[f], table[f + 1], table[f + 2], table[f + 3]
        for j in range(first, last):
            total[j] += a * one[j] + b * two[j] + c * three[j] + d * four[j]
    for f in range(many, len(row)):
        a, one = factor * row[f], table[f]
        for j in range(first, last):
            total[j] += a * one[j]


@numba.njit(cache=True, error_model="numpy", nogil=True)
def close_pairs(
    shadow: NDArray[np.float32],
    other: NDArray[np.float32],
    square: NDArray[np.float32],
    limit: float,
    row: NDArray[np.int64],
    column: NDArray[np.int64],
) -> int:
    """Fill ``row`` and ``column`` with the pairs whose squared distance is at most ``limit``.

    Args:
        shadow: ``(n, k)``.
        other: ``(k, m)``; ``square`` ``(m,)``, its squared lengths.

    Returns:
        how many they are; -1 if there is no room for all.
    """
    count, most = 0, np.float32(limit)
    apart = np.empty(other.shape[1], other.dtype)
    for i in range(len(shadow)):
        own = np.float32(0)
        for f in range(shadow.shape[1]):
            own += shadow[i, f] * shadow[i, f]
        apart[:] = square
        _add(apart, shadow[i], np.float32(-2), other, 0, len(apart))
        room, near = most - own, 0
        for j in range(len(apart)):
            near += apart[j] <= room
        if not near:
            continue
        for j in range(len(apart)):
            if apart[j] <= room:
                if count == len(row):
                    return -1
                row[count], column[count] = i, j
                count += 1
    return count


@numba.njit(cache=True, error_model="numpy", nogil=True)
def most_similar(
    group: NDArray[np.int64],
    own: NDArray[np.float32],
    start: NDArray[np.int64],
    key: NDArray[np.float32],
    patch: NDArray[np.int64],
    chosen: NDArray[np.int64],
    share: NDArray[np.float32],
    twice: bool,
) -> None:
    """Fill ``chosen`` and ``share`` ``(n, most)`` with the patches of the regions ``start[g]`` to
    ``start[g + 1]`` of each row's group whose keys have the largest product with its own; 1, and 0
    where there are fewer, or where a patch is there already.

    Args:
        group: ``(n,)``.
        own: ``(n, f)``.
        start: ``(groups + 1,)``.
        key: ``(f, m)``, regions in order of their group.
        patch: ``(m,)``.
        twice: whether a patch may be there already.
    """
    most = chosen.shape[1]
    best = np.empty(most, own.dtype)
    scores, one = np.empty(key.shape[1], own.dtype), np.ones(1, own.dtype)[0]
    for row in range(len(group)):
        held, first, last = 0, start[group[row]], start[group[row] + 1]
        scores[first:last] = 0
        _add(scores, own[row], one, key, first, last)
        for region in range(first, last):
            score = scores[region]
            if held == most and score <= best[most - 1]:
                continue
            place = min(held, most - 1)
            while place > 0 and best[place - 1] < score:
                best[place] = best[place - 1]
                chosen[row, place] = chosen[row, place - 1]
                place -= 1
            best[place] = score
            chosen[row, place] = patch[region]
            held = min(held + 1, most)
        for place in range(most):
            share[row, place] = place < held
            if place >= held:
                chosen[row, place] = 0
            for before in range(min(place, held) if twice else 0):
                if chosen[row, before] == chosen[row, place]:
                    share[row, place] = 0
