"""Compiled twins of ``rng``: one pass in place of a dozen tensor operations, the same bits."""

from __future__ import annotations

import numba
import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ONE, _30, _27, _31 = np.uint64(1), np.uint64(30), np.uint64(27), np.uint64(31)


@numba.vectorize(["uint64(uint64, uint64)"], cache=True, nopython=True)
def advanced(state, counter):  # type: ignore[no-untyped-def]
    """The state after one counter of ``bits``; operands broadcast."""
    state = state + (counter + _ONE) * _GOLDEN
    state = (state ^ (state >> _30)) * _MIX1
    state = (state ^ (state >> _27)) * _MIX2
    return state ^ (state >> _31)


@numba.njit("void(int32[:, ::1], uint64[::1])", cache=True, nogil=True)
def summed(pixels, sums):  # type: ignore[no-untyped-def]
    """Of ``image_keys``: the weighted sum over each image's mixed pixels, ``(n,)``."""
    for n in range(pixels.shape[0]):
        total = np.uint64(0)
        for p in range(pixels.shape[1]):
            weight = np.uint64(p) + _GOLDEN
            weight = (weight ^ (weight >> _30)) * _MIX1
            weight = (weight ^ (weight >> _27)) * _MIX2
            state = np.uint64(np.int64(pixels[n, p])) + _ONE
            state = (state ^ (state >> _30)) * _MIX1
            state = (state ^ (state >> _27)) * _MIX2
            total += (state ^ (state >> _31)) * ((weight ^ (weight >> _31)) | _ONE)
        sums[n] = total
