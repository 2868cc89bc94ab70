"""Compiled twins of the gradient ascents' steps and of their losses' gradients."""

from __future__ import annotations

import numpy as np

from suture.attacks.kernels import jit

_ONE, _ZERO = np.float32(1.0), np.float32(0.0)
_HALF, _TINY = np.float32(0.5), np.float32(1e-12)


@jit
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


@jit
def keep_better(here, gradient, value, best, best_gradient, top):  # type: ignore[no-untyped-def]
    """Points of higher loss, with their gradients and losses, in place of the best."""
    for k in range(len(here)):
        if value[k] > top[k]:
            best[k], best_gradient[k], top[k] = here[k], gradient[k], value[k]


@jit
def signed_step(here, clean, gradient, step, eps, moved):  # type: ignore[no-untyped-def]
    """PGD's step for L∞: along the signs, then into the ball and into [0, 1]."""
    for k in range(len(here)):
        x, centre, slope, out = here[k], clean[k], gradient[k], moved[k]
        for p in range(len(x)):
            low, high = centre[p] - eps, centre[p] + eps
            low, high = low if low > 0 else _ZERO, high if high < 1 else _ONE
            value = (np.float32(slope[p] > 0) - np.float32(slope[p] < 0)) * step + x[p]
            value = low if value < low else value
            out[p] = high if value > high else value


@jit
def _ranked(row, order):  # type: ignore[no-untyped-def]
    """Classes of the largest logits, the largest first; the first of equals, NaN before all."""
    filled = 0
    for c in range(len(row)):
        at = filled
        while at > 0 and (row[c] > row[order[at - 1]] or (row[c] != row[c])):
            if row[order[at - 1]] != row[order[at - 1]]:
                break
            at -= 1
        if at == len(order):
            continue
        filled = min(filled + 1, len(order))
        for place in range(filled - 1, at, -1):
            order[place] = order[place - 1]
        order[at] = c


@jit
def dlr_towards(logits, goals, targets, odds, values, slopes):  # type: ignore[no-untyped-def]
    """``losses.dlr_towards``, and its gradient times the odds of each draw."""
    order = np.empty(4, np.int64)
    for d in range(len(logits)):
        for k in range(len(goals)):
            row, slope, own, other = logits[d, k], slopes[d, k], goals[k], targets[k]
            _ranked(row, order)
            spread = row[order[0]] - _HALF * (row[order[2]] + row[order[3]]) + _TINY
            values[d, k] = -(row[own] - row[other]) / spread
            by_gap = odds[d] / spread
            by_spread = -odds[d] * (values[d, k] / spread)
            slope[:] = _ZERO
            slope[own] -= by_gap
            slope[other] += by_gap
            slope[order[0]] += by_spread
            slope[order[2]] -= by_spread * _HALF
            slope[order[3]] -= by_spread * _HALF


@jit
def dlr(logits, goals, odds, values, slopes):  # type: ignore[no-untyped-def]
    """``losses.dlr``, and its gradient times the odds of each draw; equal rivals share it."""
    order = np.empty(3, np.int64)
    for d in range(len(logits)):
        for k in range(len(goals)):
            row, slope, own = logits[d, k], slopes[d, k], goals[k]
            _ranked(row, order)
            spread = row[order[0]] - row[order[2]] + _TINY
            rival = row[order[1]] if order[0] == own else row[order[0]]
            values[d, k] = -(row[own] - rival) / spread
            by_gap, by_spread = odds[d] / spread, -odds[d] * (values[d, k] / spread)
            equals = _ZERO
            for c in range(len(row)):
                equals += np.float32(c != own and row[c] == rival)
            for c in range(len(row)):
                slope[c] = by_gap / equals if c != own and row[c] == rival else _ZERO
            slope[own] -= by_gap
            slope[order[0]] += by_spread
            slope[order[2]] -= by_spread


@jit
def ahead(logits, goals, others, odds, values, slopes):  # type: ignore[no-untyped-def]
    """By how much another class is ahead of the goal, and its gradient times each draw's odds."""
    for d in range(len(logits)):
        for k in range(len(goals)):
            row, slope, own, other = logits[d, k], slopes[d, k], goals[k], others[k]
            values[d, k] = row[other] - row[own]
            slope[:] = _ZERO
            slope[other] += odds[d]
            slope[own] -= odds[d]
