"""The compiled scorer for many classes: rivals that cannot win need no arithmetic.

A program changes the logit of class j on sample i by ``Σ_k W[j, f_k]·δ_k[i]``, k over the features
that it writes. Over a span of samples ``δ_k`` lies in ``[lo_k, hi_k]``; hence the change is at most
``B_j = Σ_k max(W[j, f_k]·lo_k, W[j, f_k]·hi_k)``: one number a class and span, not one a sample.

Proof that skipping is exact. Let ``z_j`` be the stored logit, ``l_j`` the float32 value that the
plain kernel computes, and ``own`` the one of the sample's own class. With ``u = 2⁻²⁴``, s features
written and ``size >= |z_j| + Σ_k |W[j, f_k]|·max(|lo_k|, |hi_k|)`` for all classes, rounding moves
``l_j``, a sum of s + 1 terms with s products, by at most ``(s + 1)·u·size`` to first order (Higham,
Accuracy and Stability of Numerical Algorithms, section 3.1). It moves the computed ``B_j`` by at
most as much, and adding ``z_j`` and the slack to it by ``3·u·size`` more. ``slack =
4·(s + 2)·u·size`` exceeds the sum of all that, ``(2s + 5)·u·size``, by a factor of 1.5 and more,
which covers the higher orders; a tiny constant covers underflow. So ``l_j <= fl(z_j + (B_j +
slack))``. If that is below ``own`` then ``l_j < own`` strictly: class j neither beats the own class
nor ties with it, and needs no arithmetic. If it holds for all rivals the sample is right.

Otherwise the ``l_j`` of all rivals are computed, with the plain kernel's additions in the
plain kernel's order, and compared as ``argmax`` does. Before all that a few likely winners are
asked, the rivals with the largest ``z`` and those with the largest ``B``: one that wins settles
that the sample is wrong. Where a bound would not be finite nothing is skipped.
"""

from __future__ import annotations

import numba
import numpy as np

from suture.repairs.defensyn.kernels import all_finite, changes

_BLOCK, _SPAN, _TOP = 16, 256, 4
_LARGEST = 1e37
_UNIT, _TINY = 2.0**-24, 1e-37
_jit = numba.njit(cache=True, error_model="numpy")


@_jit
def _logit(z, j, i, columns, feature, delta, written):  # type: ignore[no-untyped-def]
    """The plain kernel's logit of class j: the same float32 additions in the same order."""
    value = z
    for k in range(written):
        value = value + columns[feature[k], j] * delta[k, i]
    return value


@_jit
def _bound(start, end, columns, most, highest, feature, delta, written, bounds):  # type: ignore[no-untyped-def]
    """``B_j + slack`` of every class on samples start … end - 1; whether it is of any use."""
    bounds[:] = np.float32(0.0)
    size = highest
    for k in range(written):
        if not all_finite(delta[k, start:end]):
            return False
        low, high = delta[k, start], delta[k, start]
        for i in range(start, end):
            low, high = min(low, delta[k, i]), max(high, delta[k, i])
        _raise(bounds, columns[feature[k]], low, high)
        size += most[feature[k]] * max(abs(np.float64(low)), abs(np.float64(high)))
    if not size < _LARGEST:
        return False
    slack = np.float32(4.0 * (written + 2) * _UNIT * size + _TINY)
    for j in range(len(bounds)):
        bounds[j] += slack
    return True


@_jit
def _raise(bounds, column, low, high):  # type: ignore[no-untyped-def]
    for j in range(len(bounds)):
        one, other = column[j] * low, column[j] * high
        bounds[j] += one if one > other else other


@_jit
def _largest(bounds, top):  # type: ignore[no-untyped-def]
    """Fill ``top`` with the classes of the largest bounds."""
    for t in range(len(top)):
        top[t] = t
    least = 0
    for t in range(len(top)):
        least = t if bounds[top[t]] < bounds[top[least]] else least
    for j in range(len(top), len(bounds)):
        if bounds[j] > bounds[top[least]]:
            top[least] = j
            for t in range(len(top)):
                least = t if bounds[top[t]] < bounds[top[least]] else least


@_jit
def _beats(value, own, j, label):  # type: ignore[no-untyped-def]
    """Whether ``argmax`` prefers class j: a tie goes to the lower class. NaN beats nothing."""
    return value >= own if j < label else value > own


@_jit
def _may_win(row, bounds, own):  # type: ignore[no-untyped-def]
    """How many classes, the own one among them, the bound does not rule out."""
    count = np.int32(0)
    for j in range(len(row)):
        count += np.int32(row[j] + bounds[j] >= own)
    return count


@_jit
def _winners(row, line, label, own, i, columns, feature, delta, written):  # type: ignore[no-untyped-def]
    """How many rivals beat the own class. Slices and plain loops: only such are vectorised."""
    for j in range(len(line)):
        line[j] = row[j]
    for k in range(written):
        column, change = columns[feature[k]], delta[k, i]
        for j in range(len(line)):
            line[j] = line[j] + column[j] * change
    lower, higher = line[:label], line[label + 1 :]
    count = np.int32(0)
    for j in range(len(lower)):
        count += np.int32(lower[j] >= own)
    for j in range(len(higher)):
        count += np.int32(higher[j] > own)
    return count


@_jit
def _is_right(  # type: ignore[no-untyped-def]
    i, label, own, row, likely, heights, top, useful, bounds, line, columns, feature, delta, written
):
    if not own > -np.inf:
        return False
    for r in range(len(likely)):
        value = _logit(heights[r], likely[r], i, columns, feature, delta, written)
        if _beats(value, own, likely[r], label):
            return False
    if useful:
        for t in range(len(top)):
            j = top[t]
            if j != label:
                value = _logit(row[j], j, i, columns, feature, delta, written)
                if _beats(value, own, j, label):
                    return False
        itself = np.int32(row[label] + bounds[label] >= own)
        if _may_win(row, bounds, own) == itself:
            return True
    return _winners(row, line, label, own, i, columns, feature, delta, written) == 0


@numba.njit(cache=True, error_model="numpy", parallel=True)
def score_many(  # type: ignore[no-untyped-def]
    values,
    logits,
    labels,
    own,
    likely,
    heights,
    columns,
    most,
    highest,
    attacked,
    target,
    op,
    left,
    right,
    lc,
    rc,
    adversarial,
    clean,
    valid,
):
    count, length = target.shape
    samples, classes = logits.shape
    for block in numba.prange((count + _BLOCK - 1) // _BLOCK):
        work = np.empty((length + 2, samples), np.float32)
        delta = np.empty((length, samples), np.float32)
        feature = np.empty(length, np.int32)
        bounds, line = np.empty(classes, np.float32), np.empty(classes, np.float32)
        top = np.zeros(min(_TOP, classes), np.int32)
        for row in range(block * _BLOCK, min(count, (block + 1) * _BLOCK)):
            written = changes(row, target, op, left, right, lc, rc, values, work, feature, delta)
            valid[row] = written > 0
            if written <= 0:
                continue
            hit, total = np.int32(0), np.int32(0)
            for start in range(0, samples, _SPAN):
                end = min(start + _SPAN, samples)
                given = (columns, most, highest, feature, delta, written)
                useful = _bound(start, end, *given, bounds)
                if useful:
                    _largest(bounds, top)
                args = (top, useful, bounds, line, columns, feature, delta, written)
                for i in range(start, end):
                    label = labels[i]
                    logit = _logit(own[i], label, i, columns, feature, delta, written)
                    if _is_right(i, label, logit, logits[i], likely[i], heights[i], *args):
                        hit += attacked[i]
                        total += np.int32(1)
            adversarial[row], clean[row] = hit, total - hit
