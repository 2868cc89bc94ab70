"""The most similar regions of an input's class, in one pass over them."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, error_model="numpy", nogil=True)
def most_similar(
    group: NDArray[np.int64],
    own: NDArray[np.float32],
    start: NDArray[np.int64],
    key: NDArray[np.float32],
    patch: NDArray[np.int64],
    chosen: NDArray[np.int64],
    share: NDArray[np.float32],
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
    """
    most = chosen.shape[1]
    best = np.empty(most, own.dtype)
    scores = np.empty(key.shape[1], own.dtype)
    for row in range(len(group)):
        held, first, last = 0, start[group[row]], start[group[row] + 1]
        scores[first:last] = 0
        for f in range(own.shape[1]):
            for region in range(first, last):
                scores[region] += own[row, f] * key[f, region]
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
            for before in range(min(place, held)):
                if chosen[row, before] == chosen[row, place]:
                    share[row, place] = 0
