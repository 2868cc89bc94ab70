"""DeepPoly (Singh et al. 2019) over explicit matrices: float64, one box at a time.

Rows are sparse while few inputs matter to them, as behind convolutions, and dense after that. Every
bound is moved outward by ``SLACK`` times the size of its terms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from suture.certify.matrices import Array, Step
from suture.certify.proving import SLACK

FEW = 0.25
"""Rows are dense from this share of non-zero numbers on."""
_TOGETHER = 512

Known = list[tuple[Array, Array]]
"""Bounds of each node, lower and upper."""


def lower_bounds(
    steps: list[Step], lower: Array, upper: Array, rows: Array, add: Array, few: float = FEW
) -> Array:
    """Lower bounds ``(k,)`` of ``rows · output + add`` over one box.

    Args:
        steps: of the network.
        lower, upper: ``(d,)``.
        rows: ``(k, outputs)``.
        add: ``(k,)``.
        few: 0 keeps all rows dense: the same, slowly.
    """
    known: Known = [(lower, upper)]
    for index, step in enumerate(steps[1:], start=1):
        known.append(_interval(step, known))
        if step.inputs != (0,) and any(_reads(later, index) for later in steps[index + 1 :]):
            # (An affine step of the input itself has its exact bounds.)
            known[index] = _tightened(steps, known, index, few)
        with np.errstate(all="ignore"):
            if not np.isfinite(known[index][1] - known[index][0]).all():
                return np.full(len(rows), -np.inf)  # something overflows: nothing is known
    return _back_substituted(steps, known, len(steps) - 1, rows, add, few)


def outputs(steps: list[Step], inputs: Array) -> tuple[Array, float]:
    """What the steps compute for inputs ``(n, d)``, and the largest number on the way."""
    values = [inputs]
    for step in steps[1:]:
        first = values[step.inputs[0]]
        if step.slope is not None:
            values.append(np.where(first > 0, first, step.slope * first))
        elif step.windows is not None:
            inside = step.windows >= 0
            values.append(np.where(inside, first[:, step.windows], -np.inf).max(2))
        else:
            assert step.shift is not None
            terms = (
                (matrix @ values[i].T).T
                for matrix, i in zip(step.matrices, step.inputs, strict=True)
            )
            values.append(sum(terms, step.shift))
    return values[-1], max(float(np.abs(v).max()) for v in values)


def _reads(step: Step, index: int) -> bool:
    return index in step.inputs and not step.matrices


def _interval(step: Step, known: Known) -> tuple[Array, Array]:
    if step.slope is not None:
        low, high = known[step.inputs[0]]
        return np.maximum(low, step.slope * low), np.maximum(high, step.slope * high)
    if step.windows is not None:
        low, high = known[step.inputs[0]]
        return _largest(low, step), _largest(high, step)
    assert step.shift is not None
    centre, radius = step.shift.copy(), np.zeros_like(step.shift)
    size = np.abs(step.shift)
    for matrix, source in zip(step.matrices, step.inputs, strict=True):
        low, high = known[source]
        centre += matrix @ ((low + high) / 2)
        radius += abs(matrix) @ ((high - low) / 2)
        size += abs(matrix) @ np.maximum(np.abs(low), np.abs(high))
    return centre - radius - SLACK * size, centre + radius + SLACK * size


def _largest(values: Array, step: Step) -> Array:
    assert step.windows is not None
    inside = step.windows >= 0
    return np.where(inside, values[step.windows], -np.inf).max(1)


def _tightened(steps: list[Step], known: Known, index: int, few: float) -> tuple[Array, Array]:
    """Bounds of a node whose neurons that may be either sign are substituted back."""
    low, high = (bound.copy() for bound in known[index])
    (unstable,) = np.nonzero((low < 0) & (high > 0))
    for part in np.array_split(unstable, max(1, len(unstable) // _TOGETHER)):
        if not len(part):
            continue
        places = np.arange(len(part)), part
        unit = sp.csr_matrix((np.ones(len(part)), places), shape=(len(part), len(low)))
        both = sp.vstack([unit, -unit]).tocsr()
        rows = both if few else both.toarray()
        found = _back_substituted(steps, known, index, rows, np.zeros(2 * len(part)), few)
        low[part] = np.fmax(low[part], found[: len(part)])
        high[part] = np.fmin(high[part], -found[len(part) :])
    return low, high


def _back_substituted(
    steps: list[Step], known: Known, start: int, rows: Any, add: Array, few: float
) -> Array:
    """Rows at a node, substituted back to the input and made as small as the box allows."""
    at, total, size = {start: rows}, add.copy(), np.abs(add)
    for index in range(start, 0, -1):
        if index not in at:
            continue
        for source, part, const in _bound_backward(steps[index], at.pop(index), known):
            total, size = total + const, size + np.abs(const)
            part = _settled(part, few)
            at[source] = _sum(at[source], part) if source in at else part
    rows, (low, high) = at.get(0, np.zeros((len(add), len(known[0][0])))), known[0]
    positive, negative = _signs(rows)
    value = positive @ low + negative @ high
    size = size + abs(rows) @ np.maximum(np.abs(low), np.abs(high))
    return np.asarray(total + value - SLACK * (1e-3 + size))


def _settled(rows: Any, few: float) -> Any:
    """Dense where that costs less."""
    many = sp.issparse(rows) and rows.nnz > few * rows.shape[0] * rows.shape[1]
    return rows.toarray() if many else rows


def _sum(one: Any, other: Any) -> Any:
    if sp.issparse(one) != sp.issparse(other):
        one, other = (rows.toarray() if sp.issparse(rows) else rows for rows in (one, other))
    return one + other


def _signs(rows: Any) -> tuple[Any, Any]:
    """The positive and the negative part."""
    if not sp.issparse(rows):
        return np.maximum(rows, 0), np.minimum(rows, 0)
    return _with(rows, np.maximum(rows.data, 0)), _with(rows, np.minimum(rows.data, 0))


def _with(rows: Any, data: Array) -> Any:
    return sp.csr_matrix((data, rows.indices, rows.indptr), shape=rows.shape)


def _scaled(rows: Any, factor: Array) -> Any:
    """Every column times its factor."""
    return _with(rows, rows.data * factor[rows.indices]) if sp.issparse(rows) else rows * factor


def _bound_backward(step: Step, rows: Any, known: Known) -> list[tuple[int, Any, Array]]:
    if step.slope is not None:
        return [(step.inputs[0], *_through_relu(rows, step.slope, *known[step.inputs[0]]))]
    if step.windows is not None:
        return [(step.inputs[0], *_through_pool(rows, step, *known[step.inputs[0]]))]
    assert step.shift is not None
    shifts = [rows @ step.shift] + [np.zeros(rows.shape[0])] * (len(step.inputs) - 1)
    return [
        (source, rows @ matrix, shift)
        for source, matrix, shift in zip(step.inputs, step.matrices, shifts, strict=True)
    ]


def _through_relu(rows: Any, slope: float, low: Array, high: Array) -> tuple[Any, Array]:
    active, dead = low >= 0, high <= 0
    width = np.where(active | dead, 1.0, high - low)
    chord = np.where(active, 1.0, np.where(dead, slope, (high - slope * low) / width))
    below = np.where(active | (~dead & (high > -low)), 1.0, slope)
    lift = np.where(active | dead, 0.0, (slope - chord) * low)
    positive, negative = _signs(rows)
    return _scaled(positive, below) + _scaled(negative, chord), negative @ lift


def _through_pool(rows: Any, step: Step, low: Array, high: Array) -> tuple[Any, Array]:
    """Below, the input with the largest lower bound; above, that input too where it beats all
    others of its window, else the largest upper bound."""
    assert step.windows is not None
    inside = np.where(step.windows >= 0, low[step.windows], -np.inf)
    best = np.take_along_axis(step.windows, inside.argmax(1)[:, None], 1)[:, 0]
    places = np.arange(len(best)), best
    chosen = sp.csr_matrix((np.ones(len(best)), places), shape=(len(best), len(low)))
    rest = (step.windows >= 0) & (step.windows != best[:, None])
    wins = (low[best] >= np.where(rest, high[step.windows], -np.inf).max(1)).astype(float)
    positive, negative = _signs(rows)
    through = positive + _scaled(negative, wins)
    return through @ chosen, _scaled(negative, 1 - wins) @ _largest(high, step)
