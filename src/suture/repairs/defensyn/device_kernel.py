"""The scorer of programs before a linear head as a Triton kernel: what ``kernels`` does, on a GPU.

One instance scores one program on all samples, a tile of them at a time. The values that the
program writes stay in registers, one row a written feature; the logits follow class by class as
``z + Σ_k W[j, f_k]·δ_k``, added in the order of k. Nothing is contracted (``enable_fp_fusion`` is
off where it is launched) and divisions round to nearest: counts equal the compiled scorer's, bit
for bit. No atomics, so that they also repeat.

Importing this module needs Triton, which comes with PyTorch's CUDA builds. Without a GPU it runs in
Triton's interpreter (``TRITON_INTERPRET=1``): slow, but the same code.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _latest(index, values, i, inside, n, work, feature):  # type: ignore[no-untyped-def]
    """The value of a feature now: what the program wrote last, or what the sample has."""
    match = feature == index
    stored = tl.load(values + tl.maximum(index, 0) * n + i, mask=inside, other=0.0)
    kept = tl.sum(tl.where(match[:, None], work, 0.0), 0)
    return tl.where(tl.max(match.to(tl.int32), 0) > 0, kept, stored)


@triton.jit
def _operand(index, constant, values, i, inside, n, work, feature):  # type: ignore[no-untyped-def]
    read = _latest(index, values, i, inside, n, work, feature)
    return tl.where(index >= 0, read, constant)


@triton.jit
def _written(operation, a, b, old):  # type: ignore[no-untyped-def]
    """One instruction; the operators' numbers are those of ``language.Opcode``."""
    quotient = tl.div_rn(a, tl.where(b == 0, 1.0, b))
    new = tl.where(operation == 1, a + b, a)
    new = tl.where(operation == 2, a - b, new)
    new = tl.where(operation == 3, a * b, new)
    new = tl.where(operation == 4, tl.where(b == 0, old, quotient), new)
    new = tl.where(operation == 5, tl.where(a > b, a, b), new)
    return tl.where(operation == 6, tl.where(a < b, a, b), new)


@triton.jit
def _winners(  # type: ignore[no-untyped-def]
    labels,
    i,
    inside,
    n,
    weight,
    logits,
    delta,
    feature,
    written,
    classes,
    STEPS: tl.constexpr,
    SAMPLES: tl.constexpr,
    CLASSES: tl.constexpr,
):
    """Which samples ``argmax`` gives their own class; a tie goes to the lower class."""
    steps, label = tl.arange(0, STEPS), tl.load(labels + i, mask=inside, other=0)
    own = tl.zeros((SAMPLES,), tl.float32)
    lower = tl.full((SAMPLES,), float("-inf"), tl.float32)
    higher = tl.full((SAMPLES,), float("-inf"), tl.float32)
    for first in range(0, classes, CLASSES):
        j = first + tl.arange(0, CLASSES)
        real = j < classes
        both = real[:, None] & inside[None, :]
        z = tl.load(logits + j[:, None] * n + i[None, :], mask=both, other=float("-inf"))
        for k in range(written):
            at = tl.sum(tl.where(steps == k, feature, 0), 0)
            change = tl.sum(tl.where((steps == k)[:, None], delta, 0.0), 0)
            w = tl.load(weight + at * classes + j, mask=real, other=0.0)
            z = z + w[:, None] * change[None, :]
        own += tl.sum(tl.where(j[:, None] == label[None, :], z, 0.0), 0)
        z = tl.where((z == z) & real[:, None], z, float("-inf"))  # NaN beats nothing
        below, above = j[:, None] < label[None, :], j[:, None] > label[None, :]
        lower = tl.maximum(lower, tl.max(tl.where(below, z, float("-inf")), 0))
        higher = tl.maximum(higher, tl.max(tl.where(above, z, float("-inf")), 0))
    return (own > lower) & (own >= higher) & inside


@triton.jit
def _executed(  # type: ignore[no-untyped-def]
    values,
    target,
    op,
    left,
    right,
    lc,
    rc,
    row,
    length,
    i,
    inside,
    n,
    STEPS: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """The values that program ``row`` writes, of which features, how many, and how many are bad."""
    steps, work = tl.arange(0, STEPS), tl.zeros((STEPS, SAMPLES), tl.float32)
    feature = tl.full((STEPS,), -1, tl.int32)
    written, bad = 0, 0
    for t in range(length):
        at = row * length + t
        operation, goal = tl.load(op + at), tl.load(target + at)
        a = _operand(tl.load(left + at), tl.load(lc + at), values, i, inside, n, work, feature)
        b = _operand(tl.load(right + at), tl.load(rc + at), values, i, inside, n, work, feature)
        old = _latest(goal, values, i, inside, n, work, feature)
        new = _written(operation, a, b, old)
        infinite = ~(tl.abs(new) < float("inf")) & inside
        if (operation >= 1) & (operation <= 4):
            bad += tl.sum(infinite.to(tl.int32), 0)
        match = (feature == goal).to(tl.int32)
        known = tl.max(match, 0)
        here = tl.where(known > 0, match, (steps == written).to(tl.int32))
        here = (here > 0) & (operation >= 0)
        work = tl.where(here[:, None], new[None, :], work)
        feature = tl.where(here, goal, feature)
        written += ((known == 0) & (operation >= 0)).to(tl.int32)
    return work, feature, written, bad


@triton.jit
def score(  # type: ignore[no-untyped-def]
    values,
    weight,
    logits,
    labels,
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
    n,
    classes,
    length,
    STEPS: tl.constexpr,
    SAMPLES: tl.constexpr,
    CLASSES: tl.constexpr,
):
    """Counts of program ``program_id(0)``; see ``on_device.DeviceProblem`` for the arrays."""
    row, steps = tl.program_id(0), tl.arange(0, STEPS)
    hit, total, bad, last = 0, 0, 0, 0
    for start in range(0, n, SAMPLES):
        i = start + tl.arange(0, SAMPLES)
        inside = i < n
        work, feature, written, worse = _executed(
            values, target, op, left, right, lc, rc, row, length, i, inside, n, STEPS, SAMPLES
        )
        bad += worse
        used = (steps < written)[:, None] & inside[None, :]
        before = tl.load(values + feature[:, None] * n + i[None, :], mask=used, other=0.0)
        wins = _winners(
            labels,
            i,
            inside,
            n,
            weight,
            logits,
            work - before,
            feature,
            written,
            classes,
            STEPS,
            SAMPLES,
            CLASSES,
        )
        wins = tl.where(wins, 1, 0)
        hit += tl.sum(wins * tl.load(attacked + i, mask=inside, other=0), 0)
        total += tl.sum(wins, 0)
        last = written
    fine = tl.where((bad == 0) & (last > 0), 1, 0)
    tl.store(adversarial + row, hit * fine)
    tl.store(clean + row, (total - hit) * fine)
    tl.store(valid + row, fine)
