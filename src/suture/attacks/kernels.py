"""Compiled twins of what the attacks do between two queries: for float32 images on a processor.

Late in an attack a few images are left, and most of the time goes to starting small tensor
operations. A kernel makes one pass over each image instead. All additions happen in the order of
``geometry.row_sum`` and nothing is contracted (no fast-math): the results are those of the plain
code to the last bit, for any batch.

Here are those that judge a model's answers; ``*_kernels`` have the attacks' own. No kernel calls
one of another file: Numba would not compile it again when that file changes.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

jit = numba.njit(cache=True, error_model="numpy", nogil=True)
_ONE, _ZERO = np.float32(1.0), np.float32(0.0)


def compiles(*tensors: Tensor) -> bool:
    """Whether the kernels take these tensors."""
    for t in tensors:
        usual = t.dtype == torch.float32 and t.is_cpu and t.is_contiguous()
        if t.requires_grad or not usual:
            return False
    return True


def flat(*tensors: Tensor) -> tuple[NDArray, ...]:
    """The same memory for the kernels, images as rows."""
    arrays = [t.numpy() for t in tensors]
    return tuple([a.reshape(a.shape[0], -1) if a.ndim > 2 else a for a in arrays])


def judged(logits: Tensor, goals: Tensor, wanted: bool = True) -> tuple[Tensor, Tensor]:
    """For logits ``(k, classes)``: where ``argmax`` is the goal, or is not it, and ``margin``."""
    hit, gap = np.empty(logits.shape[0], np.bool_), np.empty(logits.shape[0], np.float32)
    _judged(logits.numpy(), goals.numpy(), wanted, hit, gap)
    return torch.from_numpy(hit), torch.from_numpy(gap)


@jit
def _judged(logits, goals, wanted, hit, gap):  # type: ignore[no-untyped-def]
    for k in range(len(logits)):
        found, gap[k] = _hit_and_gap(logits[k], goals[k])
        hit[k] = found == wanted


@jit
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


@jit
def _share_and_gap(logits, k, weights, goal, equal, targeted, enough):  # type: ignore[no-untyped-def]
    """Share of the draws that deny the attacker candidate k, and its mean margin.

    Summed over the draws from the first to the last, and no further than where more than
    ``enough`` of them deny it; ``equal`` ones have no weights.
    """
    draws = len(logits)
    total, mean, always = _ZERO, _ZERO, True
    for d in range(draws):
        hit, ahead = _hit_and_gap(logits[d, k], goal)
        weight = _ONE if equal or draws == 1 else weights[d]
        holds = hit != targeted
        always &= holds
        total = weight * np.float32(holds) if d == 0 else total + weight * np.float32(holds)
        mean = weight * ahead if d == 0 else mean + weight * ahead
        if enough < 1 and total > enough and not equal:
            return total, mean
    if equal:
        total, mean = total / np.float32(draws), mean / np.float32(draws)
    return _ONE if always else total, -mean if targeted else mean


@jit
def shares(logits, weights, equal, rows, goals, targeted, share, gap):  # type: ignore[no-untyped-def]
    """What ``Kept`` judges candidates by, from logits ``(d, k, classes)``."""
    most = np.float32(np.inf)
    for k in range(len(rows)):
        own = goals[rows[k]]
        share[k], gap[k] = _share_and_gap(logits, k, weights, own, equal, targeted, most)


@jit
def keep(logits, weights, equal, rows, goals, targeted, images, clean, limit, books, down):  # type: ignore[no-untyped-def]
    """``Kept.see`` for L∞; of each row the books hold the best candidate.

    In the candidates' order: a later one of the same row must beat the earlier one.
    """
    kept, best_share, best_gap = books
    for k in range(len(rows)):
        row = rows[k]
        best, own = best_share[row], goals[row]
        share, gap = _share_and_gap(logits, k, weights, own, equal, targeted, best)
        down[k] = share == 0
        if not (share < best or (share == best and gap < best_gap[row])):
            continue
        image, centre, inside = images[k], clean[row], 0
        for p in range(len(image)):
            near = abs(image[p] - centre[p]) <= limit
            inside += (image[p] >= 0) & (image[p] <= 1) & near
        if inside == len(image):
            kept[row], best_share[row], best_gap[row] = image, share, gap
