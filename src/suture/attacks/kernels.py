"""Compiled twins of what the attacks do between two queries: for float32 images on a processor.

Late in an attack a few images are left, and most of the time goes to starting small tensor
operations. A kernel makes one pass over each image instead. All additions happen in the order of
``geometry.row_sum`` and nothing is contracted (no fast-math): the results are those of the plain
code to the last bit, for any batch.

Images are rows of pixels, ``(k, pixels)``, or ``(k, channels, pixels)`` for windows.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_jit = numba.njit(cache=True, error_model="numpy", nogil=True)
_ROUNDS = 60
_ONE, _ZERO = np.float32(1.0), np.float32(0.0)
_TINY, _LEAST, _SHARE = np.float32(1e-30), np.float32(1e-8), np.float32(1e-6)


def compiles(*tensors: Tensor) -> bool:
    """Whether the kernels take these tensors."""
    return all(
        t.is_cpu and t.dtype == torch.float32 and t.is_contiguous() and not t.requires_grad
        for t in tensors
    )


def flat(*tensors: Tensor) -> tuple[NDArray, ...]:
    """The same memory for the kernels, images as rows."""
    return tuple((t.flatten(1) if t.ndim > 2 else t).numpy() for t in tensors)


@_jit
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


@_jit
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


@_jit
def _length(squared, move, work):  # type: ignore[no-untyped-def]
    """The L2 norm of a move where ``squared``, else the L∞ norm."""
    if squared:
        for p in range(len(move)):
            work[p] = move[p] * move[p]
        return np.sqrt(_sum(work))
    for p in range(len(move)):
        work[p] = abs(move[p])
    return _largest(work)


@_jit
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


@_jit
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


@_jit
def onto_planes(squared, points, normals, gaps, moves):  # type: ignore[no-untyped-def]
    """``projections.to_hyperplane`` for L2 (``squared``) or L∞."""
    width = points.shape[1]
    rates, work = np.empty(width, np.float32), np.empty(width, np.float32)
    sums = np.empty((3, width), np.float32)
    for k in range(len(points)):
        _smallest(squared, points[k], normals[k], gaps[k], moves[k], rates, sums, work)


@_jit
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


@_jit
def step_back(squared, here, clean, reached, place, beta, best, shortest):  # type: ignore[no-untyped-def]
    """FAB's memory, and its way back, in place, for images that have reached the goal."""
    width = here.shape[1]
    work, delta = np.empty(width, np.float32), np.empty(width, np.float32)
    for k in range(len(here)):
        if not reached[k]:
            continue
        x, centre = here[k], clean[k]
        for p in range(len(x)):
            delta[p] = x[p] - centre[p]
        length = _length(squared, delta, work)
        if length < shortest[place[k]]:
            best[place[k]] = x
            shortest[place[k]] = length
        for p in range(len(x)):
            x[p] = centre[p] + delta[p] * beta


@_jit
def square_window(clean, best, draws, side, width, eps):  # type: ignore[no-untyped-def]
    """``square_moves.edit_linf``: pixels, their values, and those of the best images there."""
    count, channels, height = len(clean), clean.shape[1], clean.shape[2] // width
    index = np.empty((count, side * side), np.int64)
    values = np.empty((count, channels, side * side), np.float32)
    before = np.empty_like(values)
    for k in range(count):
        top = ((draws[k, 0] & 0xFFFFFFFF) * (height - side + 1)) >> 32
        left = ((draws[k, 1] & 0xFFFFFFFF) * (width - side + 1)) >> 32
        for i in range(side):
            for j in range(side):
                index[k, i * side + j] = (top + i) * width + left + j
        for c in range(channels):
            # The highest of the low 32 bits is the sign.
            step = eps if (draws[k, 2 + c] >> 31) & 1 else -eps
            for i in range(side):
                start, at = (top + i) * width + left, i * side
                for j in range(side):
                    value = clean[k, c, start + j] + step
                    value = _ZERO if value < 0 else value
                    values[k, c, at + j] = _ONE if value > 1 else value
                    before[k, c, at + j] = best[k, c, start + j]
    return index, values, before


@_jit
def write(images, index, values, kept=None):  # type: ignore[no-untyped-def]
    """Values ``(k, c, m)`` at the pixels ``index``, ``(k, m)``, of images that are not kept."""
    for k in range(len(images)):
        if kept is None or not kept[k]:
            for c in range(images.shape[1]):
                for j in range(index.shape[1]):
                    images[k, c, index[k, j]] = values[k, c, j]


@_jit
def accept(loss, done, lowest):  # type: ignore[no-untyped-def]
    """Which losses are lower, or done with; these replace the lowest so far."""
    kept = np.empty(len(loss), np.bool_)
    for k in range(len(loss)):
        kept[k] = loss[k] < lowest[k] or done[k]
        lowest[k] = loss[k] if kept[k] else lowest[k]
    return kept


def judged(logits: Tensor, goals: Tensor) -> tuple[Tensor, Tensor]:
    """For logits ``(d, k, classes)``: where ``argmax`` is the goal, and ``margin``, ``(d, k)``."""
    hit, gap = _judged(logits.numpy(), goals.numpy())
    return torch.from_numpy(hit), torch.from_numpy(gap)


@_jit
def _judged(logits, goals):  # type: ignore[no-untyped-def]
    hit, gap = np.empty(logits.shape[:2], np.bool_), np.empty(logits.shape[:2], np.float32)
    for d in range(logits.shape[0]):
        for k in range(logits.shape[1]):
            hit[d, k], gap[d, k] = _hit_and_gap(logits[d, k], goals[k])
    return hit, gap


@_jit
def _hit_and_gap(row, goal):  # type: ignore[no-untyped-def]
    """The first of equals wins, and NaN wins over everything: as torch has it."""
    own, lower, higher = row[goal], np.float32(-np.inf), np.float32(-np.inf)
    for c in range(goal):
        lower = lower if (lower > row[c]) | (lower != lower) else row[c]
    for c in range(goal + 1, len(row)):
        higher = higher if (higher > row[c]) | (higher != higher) else row[c]
    first = goal == 0 or own > lower or (own != own and lower == lower)
    hit = first and (goal + 1 == len(row) or own >= higher or own != own)
    other = lower if (lower > higher) | (lower != lower) else higher
    return hit, own - other


@_jit
def shares(logits, weights, rows, goals, best_share, best_gap, equal, targeted):  # type: ignore[no-untyped-def]
    """``Kept``'s judgement of logits ``(d, k, classes)``: shares, margins, and which are better.

    Summed over the draws from the first to the last. ``equal`` divides by their number instead
    of relying on the weights.
    """
    draws, count = logits.shape[:2]
    share, gap = np.empty(count, np.float32), np.empty(count, np.float32)
    index, better = np.empty(count, np.int64), 0
    sign = np.float32(-1.0) if targeted else _ONE
    for k in range(count):
        row = rows[k]
        total, mean, always = _ZERO, _ZERO, True
        for d in range(draws):
            hit, ahead = _hit_and_gap(logits[d, k], goals[row])
            weight = _ONE if draws == 1 else weights[d]
            holds = hit != targeted
            always &= holds
            total = weight * np.float32(holds) if d == 0 else total + weight * np.float32(holds)
            mean = weight * ahead if d == 0 else mean + weight * ahead
        total = total / np.float32(draws) if equal else total
        mean = sign * (mean / np.float32(draws) if equal else mean)
        share[k], gap[k] = _ONE if always else total, mean
        known = best_share[row]
        if share[k] < known or (share[k] == known and mean < best_gap[row]):
            index[better] = k
            better += 1
    return share, gap, index[:better]


@_jit
def keep(shares, gaps, index, rows, images, clean, limit, kept, best_share, best_gap):  # type: ignore[no-untyped-def]
    """``Kept``'s books for L∞: of the index' candidates inside the ball the best of each row.

    In the index' order: a later candidate of the same row must beat the earlier one.
    """
    for k in index:
        row = rows[k]
        better = shares[k] < best_share[row]
        if not (better or (shares[k] == best_share[row] and gaps[k] < best_gap[row])):
            continue
        image, centre, inside = images[k], clean[row], 0
        for p in range(len(image)):
            near = abs(image[p] - centre[p]) <= limit
            inside += (image[p] >= 0) & (image[p] <= 1) & near
        if inside == len(image):
            kept[row], best_share[row], best_gap[row] = image, shares[k], gaps[k]


@_jit
def momentum(here, before, clean, gradient, step, eps, share, moved):  # type: ignore[no-untyped-def]
    """APGD's step for L∞: along the signs, then ``share`` of it with the rest of the last one."""
    drift = _ONE - share
    for k in range(len(here)):
        x, last, centre, slope, out = here[k], before[k], clean[k], gradient[k], moved[k]
        size = step[k]
        for p in range(len(x)):
            low, high = centre[p] - eps, centre[p] + eps
            low, high = low if low > 0 else _ZERO, high if high < 1 else _ONE
            sign = np.float32(slope[p] > 0) - np.float32(slope[p] < 0)
            straight = x[p] + size * sign
            straight = low if straight < low else straight
            straight = high if straight > high else straight
            mixed = x[p] + (straight - x[p]) * share + (x[p] - last[p]) * drift
            mixed = low if mixed < low else mixed
            out[p] = high if mixed > high else mixed


@_jit
def keep_better(here, gradient, value, best, best_gradient, top):  # type: ignore[no-untyped-def]
    """Points of higher loss, with their gradients, in place of the best; the highest losses."""
    highest = top.copy()
    for k in range(len(here)):
        if value[k] > top[k]:
            best[k], best_gradient[k], highest[k] = here[k], gradient[k], value[k]
    return highest
