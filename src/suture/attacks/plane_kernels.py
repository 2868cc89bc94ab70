"""Compiled twins of FAB's projections and steps; images are rows of pixels, ``(k, pixels)``."""

from __future__ import annotations

import numpy as np

from suture.attacks.kernels import jit

_ROUNDS = 60
_ONE, _ZERO = np.float32(1.0), np.float32(0.0)
_TINY, _LEAST, _SHARE = np.float32(1e-30), np.float32(1e-8), np.float32(1e-6)


@jit
def _sum(work):  # type: ignore[no-untyped-def]
    """``row_sum`` of one row, which is overwritten."""
    width = len(work)
    while width > 1:
        half = (width + 1) // 2
        low, high = work[: width - half], work[half:width]
        for i in range(len(low)):
            low[i] += high[i]
        width = half
    return work[0]


@jit
def _largest(work):  # type: ignore[no-untyped-def]
    """The largest entry of one row, which is overwritten; NaN if there is one."""
    width = len(work)
    while width > 1:
        half = (width + 1) // 2
        low, high = work[: width - half], work[half:width]
        for i in range(len(low)):
            low[i] = low[i] if (low[i] > high[i]) | (low[i] != low[i]) else high[i]
        width = half
    return work[0]


@jit
def _length(squared, move, work):  # type: ignore[no-untyped-def]
    """The L2 norm of a move where ``squared``, else the L∞ norm."""
    if squared:
        for p in range(len(move)):
            work[p] = move[p] * move[p]
        return np.sqrt(_sum(work))
    for p in range(len(move)):
        work[p] = abs(move[p])
    return _largest(work)


@jit
def _smallest(squared, point, normal, gap, move, rates, sums, work):  # type: ignore[no-untyped-def]
    """The move of one image onto its plane: ``projections.to_hyperplane`` for L2 and L∞.

    ``sums`` takes weights·room, weights·rates and the multipliers at which the room ends.
    """
    filled, gains, ends = sums[0], sums[1], sums[2]
    for p in range(len(point)):
        work[p] = abs(normal[p])
    scale = _largest(work)
    scale = _TINY if scale < _TINY else scale
    sign = np.float32(gap > 0) - np.float32(gap < 0)
    factor, need = -sign / scale, abs(gap) / scale
    for p in range(len(point)):
        direction = normal[p] * factor
        weight, room = abs(direction), _ONE - point[p] if direction > 0 else point[p]
        rate = weight if squared else np.float32(weight != 0)
        move[p], rates[p] = room, rate
        filled[p], gains[p] = weight * room, weight * rate
        work[p] = gains[p]
        ends[p] = room / rate if rate > 0 else _ZERO
    total = _sum(work)
    here = _multiplier(filled, gains, ends, total, need, work)
    for p in range(len(point)):
        free, room = here * rates[p], move[p]
        free = free if (free < room) | (free != free) else room
        move[p] = np.copysign(free, normal[p] * factor)


@jit
def _multiplier(filled, gains, ends, total, need, work):  # type: ignore[no-untyped-def]
    """Newton's method of ``projections._spread`` for one image."""
    if not total > 0:
        return _ZERO
    here = need / (_TINY if total < _TINY else total)
    for _ in range(_ROUNDS):
        for p in range(len(ends)):
            work[p] = filled[p] if ends[p] <= here else _ZERO
        lost = _sum(work)
        for p in range(len(ends)):
            work[p] = gains[p] if ends[p] <= here else _ZERO
        left = total - _sum(work)
        after = (need - lost) / left if left > _SHARE * total else here
        if not after > here:
            return after if after != after else here
        here = after
    return here


@jit
def onto_planes(squared, points, normals, gaps, moves):  # type: ignore[no-untyped-def]
    """``projections.to_hyperplane`` for L2 (``squared``) or L∞."""
    width = points.shape[1]
    rates, work = np.empty(width, np.float32), np.empty(width, np.float32)
    sums = np.empty((3, width), np.float32)
    for k in range(len(points)):
        _smallest(squared, points[k], normals[k], gaps[k], moves[k], rates, sums, work)


@jit
def biased_step(squared, here, clean, normals, gaps, limit, eta, moved):  # type: ignore[no-untyped-def]
    """FAB's step for L2 (``squared``) or L∞; ``limit`` is its largest bias."""
    width = here.shape[1]
    rates, work = np.empty(width, np.float32), np.empty(width, np.float32)
    own, other = np.empty(width, np.float32), np.empty(width, np.float32)
    sums = np.empty((3, width), np.float32)
    for k in range(len(here)):
        x, centre, normal, out = here[k], clean[k], normals[k], moved[k]
        for p in range(len(x)):
            work[p] = normal[p] * (centre[p] - x[p])
        gap = gaps[k] + _sum(work)
        _smallest(squared, x, normal, gaps[k], own, rates, sums, work)
        _smallest(squared, centre, normal, gap, other, rates, sums, work)
        near, far = _length(squared, own, work), _length(squared, other, work)
        near, far = _LEAST if near < _LEAST else near, _LEAST if far < _LEAST else far
        alpha = near / (near + far)
        alpha = limit if alpha > limit else alpha
        rest = _ONE - alpha
        for p in range(len(x)):
            value = (x[p] + eta * own[p]) * rest + (centre[p] + eta * other[p]) * alpha
            value = _ZERO if value < 0 else value
            out[p] = _ONE if value > 1 else value


@jit
def step_back(squared, here, clean, reached, place, near, beta, enough, best, shortest):  # type: ignore[no-untyped-def]
    """FAB's memory, and its way back, in place, for images that have reached the goal.

    ``near``: who has a change of at most ``enough`` by now.
    """
    width = here.shape[1]
    work, delta = np.empty(width, np.float32), np.empty(width, np.float32)
    for k in range(len(here)):
        if reached[k]:
            x, centre = here[k], clean[k]
            for p in range(len(x)):
                delta[p] = x[p] - centre[p]
            length = _length(squared, delta, work)
            if length < shortest[place[k]]:
                best[place[k]] = x
                shortest[place[k]] = length
            for p in range(len(x)):
                x[p] = centre[p] + delta[p] * beta
        near[k] = shortest[place[k]] <= enough
