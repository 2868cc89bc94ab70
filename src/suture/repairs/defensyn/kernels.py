"""The compiled scorer of programs before a linear head; see ``scoring`` for the idea and cost.

Written for the vectoriser: loops over consecutive samples, one per operator, no aliasing.
Additions happen in a fixed order and are not contracted (no fast-math), so that counts are the
same on any number of threads.
"""

from __future__ import annotations

import numba
import numpy as np

_BLOCK = 256
_INFINITY = np.int32(0x7F800000)
_MAGNITUDE = np.int32(0x7FFFFFFF)
_jit = numba.njit(cache=True, error_model="numpy")


@_jit
def _write(op, a, b, old, out):  # type: ignore[no-untyped-def]
    """One instruction over all samples. One loop per operator: only such loops are vectorised."""
    n = len(out)
    if op == 0:
        for i in range(n):
            out[i] = a[i]
    elif op == 1:
        for i in range(n):
            out[i] = a[i] + b[i]
    elif op == 2:
        for i in range(n):
            out[i] = a[i] - b[i]
    elif op == 3:
        for i in range(n):
            out[i] = a[i] * b[i]
    elif op == 4:
        for i in range(n):
            out[i] = old[i] if b[i] == 0 else a[i] / b[i]
    elif op == 5:
        for i in range(n):
            out[i] = a[i] if a[i] > b[i] else b[i]
    else:
        for i in range(n):
            out[i] = a[i] if a[i] < b[i] else b[i]


@_jit
def all_finite(values):  # type: ignore[no-untyped-def]
    """Whether no value is infinite or NaN: their bit patterns, without sign, are the highest."""
    patterns = values.view(np.int32)
    highest = np.int32(0)
    for i in range(len(patterns)):
        highest = max(highest, np.int32(patterns[i] & _MAGNITUDE))
    return highest < _INFINITY


@_jit
def changes(row, target, op, left, right, lc, rc, values, work, feature, delta):  # type: ignore[no-untyped-def]
    """Run one program; returns how many features it writes, or -1 for a non-finite value.

    Step t writes to ``work[t]``, so that later steps read the latest value of a feature by its
    row. ``feature[k]`` and ``delta[k]`` become the k-th written feature and its change.
    """
    length = target.shape[1]
    latest = np.empty(length, np.int32)
    written = 0
    for t in range(length):
        operation = op[row, t]
        if operation < 0:
            break
        a = _operand(left[row, t], lc[row, t], values, work, feature, latest, written, length)
        b = _operand(right[row, t], rc[row, t], values, work, feature, latest, written, length + 1)
        slot = _slot(target[row, t], feature, written)
        old = work[latest[slot]] if slot >= 0 else values[target[row, t]]
        _write(operation, a, b, old, work[t])
        if 1 <= operation <= 4 and not all_finite(work[t]):
            return -1
        if slot < 0:
            slot = written
            feature[slot] = target[row, t]
            written += 1
        latest[slot] = t
    for k in range(written):
        new, old = work[latest[k]], values[feature[k]]
        change = delta[k]
        for i in range(len(change)):
            change[i] = new[i] - old[i]
    return written


@_jit
def _slot(index, feature, written):  # type: ignore[no-untyped-def]
    for k in range(written):
        if feature[k] == index:
            return k
    return -1


@_jit
def _operand(index, constant, values, work, feature, latest, written, spare):  # type: ignore[no-untyped-def]
    if index < 0:
        work[spare, :] = constant
        return work[spare]
    slot = _slot(index, feature, written)
    return work[latest[slot]] if slot >= 0 else values[index]


@_jit
def _logit(label, start, end, weight, logits, feature, delta, written, out):  # type: ignore[no-untyped-def]
    """``out = logits[label] + Σ_k W[label, feature_k]·delta_k``, added in the order of k."""
    w, base, to = weight[label], logits[label, start:end], out[start:end]
    n = len(to)
    w0, d0 = w[feature[0]], delta[0, start:end]
    if written == 1:
        for i in range(n):
            to[i] = base[i] + w0 * d0[i]
        return
    w1, d1 = w[feature[1]], delta[1, start:end]
    if written == 2:
        for i in range(n):
            to[i] = base[i] + w0 * d0[i] + w1 * d1[i]
        return
    w2, d2 = w[feature[2]], delta[2, start:end]
    for i in range(n):
        to[i] = base[i] + w0 * d0[i] + w1 * d1[i] + w2 * d2[i]
    k = 3
    while k + 1 < written:
        w0, d0 = w[feature[k]], delta[k, start:end]
        w1, d1 = w[feature[k + 1]], delta[k + 1, start:end]
        for i in range(n):
            to[i] = to[i] + w0 * d0[i] + w1 * d1[i]
        k += 2
    if k < written:
        w0, d0 = w[feature[k]], delta[k, start:end]
        for i in range(n):
            to[i] = to[i] + w0 * d0[i]


@_jit
def _right(groups, weight, logits, feature, delta, written, own, other, lower, higher):  # type: ignore[no-untyped-def]
    """Logit of each sample's own class, and the best among lower and among higher classes.

    ``argmax`` gives a tie to the lower class: a sample is right when ``own > lower`` and
    ``own >= higher``. Samples are sorted by label, so a rival class stands below all samples
    after its own group and above all before it.
    """
    lower[:], higher[:] = -np.inf, -np.inf
    for rival in range(len(logits)):
        start, end = groups[rival], groups[rival + 1]
        _logit(rival, 0, len(own), weight, logits, feature, delta, written, other)
        own[start:end] = other[start:end]
        _raise(higher[:start], other[:start])
        _raise(lower[end:], other[end:])


@_jit
def _raise(best, rival):  # type: ignore[no-untyped-def]
    for i in range(len(best)):
        best[i] = rival[i] if rival[i] > best[i] else best[i]


@numba.njit(cache=True, error_model="numpy", parallel=True)
def score_linear(  # type: ignore[no-untyped-def]
    weight,
    values,
    logits,
    groups,
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
    samples = values.shape[1]
    for block in numba.prange((count + _BLOCK - 1) // _BLOCK):
        work = np.empty((length + 2, samples), np.float32)
        delta = np.empty((length, samples), np.float32)
        feature = np.empty(length, np.int32)
        own, other = np.empty(samples, np.float32), np.empty(samples, np.float32)
        lower, higher = np.empty(samples, np.float32), np.empty(samples, np.float32)
        for row in range(block * _BLOCK, min(count, (block + 1) * _BLOCK)):
            written = changes(row, target, op, left, right, lc, rc, values, work, feature, delta)
            valid[row] = written > 0
            if written > 0:
                args = (groups, weight, logits, feature, delta, written)
                _right(*args, own, other, lower, higher)
                hit, total = _count(own, lower, higher, attacked)
                adversarial[row], clean[row] = hit, total - hit


@_jit
def _count(own, lower, higher, attacked):  # type: ignore[no-untyped-def]
    hit, total = np.int32(0), np.int32(0)
    for i in range(len(own)):
        right = np.int32((own[i] > lower[i]) & (own[i] >= higher[i]))
        hit += right & attacked[i]
        total += right
    return hit, total


@numba.njit(cache=True, error_model="numpy", parallel=True)
def score_weighted(  # type: ignore[no-untyped-def]
    weight,
    values,
    logits,
    groups,
    gains,
    cleans,
    cap,
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
    """``score_linear`` for samples that weigh differently; see ``weighted``."""
    count, length = target.shape
    samples = values.shape[1]
    for block in numba.prange((count + _BLOCK - 1) // _BLOCK):
        work = np.empty((length + 2, samples), np.float32)
        delta = np.empty((length, samples), np.float32)
        feature = np.empty(length, np.int32)
        own, other = np.empty(samples, np.float32), np.empty(samples, np.float32)
        lower, higher = np.empty(samples, np.float32), np.empty(samples, np.float32)
        for row in range(block * _BLOCK, min(count, (block + 1) * _BLOCK)):
            written = changes(row, target, op, left, right, lc, rc, values, work, feature, delta)
            valid[row] = written > 0
            if written > 0:
                args = (groups, weight, logits, feature, delta, written)
                _right(*args, own, other, lower, higher)
                adversarial[row] = _weighed(own, lower, higher, gains, cap)
                clean[row] = _weighed(own, lower, higher, cleans, cap)


@_jit
def _weighed(own, lower, higher, weights, cap):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    for i in range(len(own)):
        if cap <= 0:
            worth = np.int64(100) * ((own[i] > lower[i]) & (own[i] >= higher[i]))
        else:
            share = (own[i] - max(lower[i], higher[i])) / cap
            share = share if share > np.float32(-1) else np.float32(-1)
            share = share if share < np.float32(1) else np.float32(1)
            worth = np.int64((share + np.float32(1)) * np.float32(50))
        total += weights[i] * worth
    return total
