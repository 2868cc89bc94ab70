"""The loops of ``suture.bounds.kernels``, compiled: arrays in, arrays filled.

Inner loops touch few arrays each: with more, the compiler would have to check too many pairs for
overlap, and makes no vector instructions. A row stays in the cache from one loop to the next.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True, error_model="numpy")
def relu_relaxation(lower, upper, slope, low, up, shift):  # type: ignore[no-untyped-def]
    flat, zero, one = lower.dtype.type(slope), lower.dtype.type(0), lower.dtype.type(1)
    nan = lower.dtype.type(np.nan)
    for i in range(lower.shape[0]):
        for j in range(lower.shape[1]):
            first, last = lower[i, j], upper[i, j]
            width = last - first
            chord = (last - flat * first) / width
            steep = one if first >= 0 else (flat if last <= 0 else chord)
            # Without bounds, or with a width that overflows, nothing may be proved.
            up[i, j] = steep if width < np.inf else nan
            tall = one if last > -first else flat
            low[i, j] = one if first >= 0 else (flat if last <= 0 else tall)
        for j in range(lower.shape[1]):
            first, last = lower[i, j], upper[i, j]
            width = last - first
            unstable_shift = (flat - (last - flat * first) / width) * first
            moved = zero if first >= 0 or last <= 0 else unstable_shift
            shift[i, j] = moved if width < np.inf else nan


@numba.njit(nogil=True, cache=True, error_model="numpy")
def relu_relaxation_back(  # type: ignore[no-untyped-def]
    lower, upper, slope, of_up, of_shift, of_lower, of_upper
):
    flat, zero = lower.dtype.type(slope), lower.dtype.type(0)
    part = lower.dtype.type(1) - flat
    for i in range(lower.shape[0]):
        for j in range(lower.shape[1]):
            first, last = lower[i, j], upper[i, j]
            chord, width = (last - flat * first) / (last - first), last - first
            whole = (of_up[i, j] - of_shift[i, j] * first) * part / width / width
            stable = first >= 0 or last <= 0
            of_upper[i, j] = zero if stable else -whole * first
            of_lower[i, j] = zero if stable else whole * last + of_shift[i, j] * (flat - chord)


@numba.njit(nogil=True, cache=True, fastmath={"reassoc"}, error_model="numpy")
def bend(rows, low, up, shift, out, add):  # type: ignore[no-untyped-def]
    zero = rows.dtype.type(0)
    for i in range(out.shape[0]):
        own = i if rows.shape[0] > 1 else 0
        for r in range(out.shape[1]):
            total = zero
            for j in range(out.shape[2]):
                c = rows[own, r, j]
                negative = c if c < 0 else zero
                out[i, r, j] = c * low[i, j] + negative * (up[i, j] - low[i, j])
                total += negative * shift[i, j]
            add[i, r] = total


@numba.njit(nogil=True, cache=True, error_model="numpy")
def bend_back(  # type: ignore[no-untyped-def]
    rows, low, up, shift, of_out, of_add, of_rows, of_low, of_up, of_shift
):
    # Three loops over a row that stays in the cache: with fewer arrays each, they become vector
    # instructions, as one loop does not.
    zero, one = rows.dtype.type(0), rows.dtype.type(1)
    for i in range(of_out.shape[0]):
        own = i if rows.shape[0] > 1 else 0
        for r in range(of_out.shape[1]):
            constant = of_add[i, r]
            for j in range(of_out.shape[2]):
                negative = one if rows[own, r, j] < 0 else zero
                slope = low[i, j] + negative * (up[i, j] - low[i, j])
                of_rows[i, r, j] = of_out[i, r, j] * slope + constant * negative * shift[i, j]
            for j in range(of_out.shape[2]):
                whole = of_out[i, r, j] * rows[own, r, j]
                below = whole * (one if rows[own, r, j] < 0 else zero)
                of_up[i, j] += below
                of_low[i, j] += whole - below
            for j in range(of_out.shape[2]):
                negative = rows[own, r, j] if rows[own, r, j] < 0 else zero
                of_shift[i, j] += constant * negative


@numba.njit(nogil=True, cache=True, fastmath={"reassoc"}, error_model="numpy")
def least(rows, lower, upper, found):  # type: ignore[no-untyped-def]
    """No value is infinitely large: +inf is an overflow, and becomes NaN."""
    zero, nan = rows.dtype.type(0), rows.dtype.type(np.nan)
    for i in range(rows.shape[0]):
        for r in range(rows.shape[1]):
            total = zero
            for j in range(rows.shape[2]):
                c = rows[i, r, j]
                positive = c if c > 0 else zero
                total += positive * lower[i, j] + (c - positive) * upper[i, j]
            found[i, r] = total if total < np.inf else nan


@numba.njit(nogil=True, cache=True, fastmath={"reassoc"}, error_model="numpy")
def least_and_most(rows, lower, upper, least, most):  # type: ignore[no-untyped-def]
    zero, nan = rows.dtype.type(0), rows.dtype.type(np.nan)
    for i in range(rows.shape[0]):
        for r in range(rows.shape[1]):
            first, second = zero, zero
            for j in range(rows.shape[2]):
                c, low, up = rows[i, r, j], lower[i, j], upper[i, j]
                positive = c if c > 0 else zero
                negative = c - positive
                first += positive * low + negative * up
                second += positive * up + negative * low
            least[i, r] = first if first < np.inf else nan
            most[i, r] = second if second > -np.inf else nan


@numba.njit(nogil=True, cache=True, error_model="numpy")
def slope_of_rows(rows, lower, upper, of_least, of_most, found):  # type: ignore[no-untyped-def]
    """Of ``least_and_most``; where a coefficient is zero, that of the middle."""
    half = rows.dtype.type(0.5)
    for i in range(rows.shape[0]):
        for r in range(rows.shape[1]):
            first, second = of_least[i, r], of_most[i, r]
            for j in range(rows.shape[2]):
                c, low, up = rows[i, r, j], lower[i, j], upper[i, j]
                middle = half * (low + up)
                near = low if c > 0 else (up if c < 0 else middle)
                far = up if c > 0 else (low if c < 0 else middle)
                found[i, r, j] = first * near + second * far


@numba.njit(nogil=True, cache=True, error_model="numpy")
def slope_of_box(rows, of_least, of_most, of_lower, of_upper):  # type: ignore[no-untyped-def]
    """Of ``least_and_most``, added to what is there."""
    zero = rows.dtype.type(0)
    for i in range(rows.shape[0]):
        for r in range(rows.shape[1]):
            first, second = of_least[i, r], of_most[i, r]
            for j in range(rows.shape[2]):
                c = rows[i, r, j]
                positive = c if c > 0 else zero
                negative = c - positive
                of_lower[i, j] += first * positive + second * negative
                of_upper[i, j] += first * negative + second * positive
