"""Re-proves certificates from the file and the network alone.

The bounds come from ``matrices``: DeepPoly (Singh et al. 2019) in float64 numpy, one box at a
time, with outward slack on every bound. Networks that this plain way cannot hold (sigmoid, tanh,
too many weights) are checked by ``suture.bounds`` in float64, and the verdict says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from torch import nn

from suture import bounds
from suture.bounds import Method
from suture.certify.certificate import Certificate
from suture.certify.matrices import Array, Cache, Step, TooLargeError, steps_of
from suture.certify.proving import SLACK, parts_of, prove, subject_of
from suture.models import fingerprint
from suture.types import Box

_OTHERS = ("alpha-crown", "crown-ibp", "ibp")
"""Methods whose margins plain DeepPoly may not reach."""


@dataclass(frozen=True)
class CheckResult:
    """What came out of checking one certificate.

    Attributes:
        holds: whether the claim was proved again.
        margin: the smallest lower bound found now, -inf if none.
        by: "plain matrices" or "suture.bounds".
        reason: why it does not hold, else empty.
    """

    holds: bool
    margin: float
    by: str
    reason: str = ""


class Checker:
    """Checks certificates of one model; what they share is prepared once."""

    def __init__(self, model: nn.Module) -> None:
        self.model = subject_of(model)
        self.network = fingerprint(self.model)
        self._cache: Cache = {}

    def __call__(self, certificate: Certificate) -> CheckResult:
        """Whether the claim holds for this very model."""
        if certificate.network != self.network:
            return CheckResult(
                False, float("-inf"), "none", "it speaks of a model with other weights"
            )
        parts = parts_of(self.model, certificate.lower, certificate.upper)
        found = [self._bound(part, certificate) for part in parts]
        if not found:
            return CheckResult(False, float("-inf"), "none", "no network answers in its region")
        margin, by = min(found)
        if margin > 0:
            return CheckResult(True, margin, by)
        return CheckResult(False, margin, by, f"the bound is {margin:g}, not above 0")

    def _bound(self, part: nn.Module, certificate: Certificate) -> tuple[float, str]:
        try:
            steps = steps_of(bounds.read(part, tuple(certificate.lower.shape)), self._cache)
        except TooLargeError:
            return self._fallback(part, certificate)
        rows, add = certificate.rows.flatten(1).numpy(), certificate.add.numpy()
        box = certificate.lower.flatten().numpy(), certificate.upper.flatten().numpy()
        found = lower_bounds(steps, *box, rows, add)
        margin = float(found.min()) if np.isfinite(found).all() else float("-inf")
        if margin <= 0 and certificate.method in _OTHERS:
            # Optimised slopes prove more than DeepPoly's, and so do intervals of networks that
            # were trained on intervals; only ``suture.bounds`` has them.
            return self._fallback(part, certificate)
        return margin, "plain matrices"

    def _fallback(self, part: nn.Module, certificate: Certificate) -> tuple[float, str]:
        method = cast(Method, certificate.method if certificate.method in _OTHERS else "crown")
        box = Box(certificate.lower[None], certificate.upper[None])
        found = prove(part, box, certificate.rows[None], certificate.add[None], method)
        return float(found.min()), "suture.bounds"


def lower_bounds(steps: list[Step], lower: Array, upper: Array, rows: Array, add: Array) -> Array:
    """Lower bounds ``(k,)`` of ``rows · output + add`` over one box."""
    known: list[tuple[Array, Array]] = [(lower, upper)]
    for index, step in enumerate(steps[1:], start=1):
        known.append(_interval(step, known))
        if any(_reads(later, index) for later in steps[index + 1 :]):
            known[index] = _tightened(steps, known, index)
        with np.errstate(all="ignore"):
            if not np.isfinite(known[index][1] - known[index][0]).all():
                return np.full(len(rows), -np.inf)  # something overflows: nothing is known
    return _back_substituted(steps, known, len(steps) - 1, rows, add)


def _reads(step: Step, index: int) -> bool:
    return index in step.inputs and not step.matrices


def _interval(step: Step, known: list[tuple[Array, Array]]) -> tuple[Array, Array]:
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


def _tightened(
    steps: list[Step], known: list[tuple[Array, Array]], index: int
) -> tuple[Array, Array]:
    low, high = (bound.copy() for bound in known[index])
    (unstable,) = np.nonzero((low < 0) & (high > 0))
    for part in np.array_split(unstable, max(1, len(unstable) // 256)):
        if not len(part):
            continue
        unit = np.zeros((len(part), len(low)))
        unit[np.arange(len(part)), part] = 1
        zero = np.zeros(len(part))
        low[part] = np.fmax(low[part], _back_substituted(steps, known, index, unit, zero))
        high[part] = np.fmin(high[part], -_back_substituted(steps, known, index, -unit, zero))
    return low, high


def _back_substituted(
    steps: list[Step], known: list[tuple[Array, Array]], start: int, rows: Array, add: Array
) -> Array:
    """Rows at a node, substituted back to the input and made as small as the box allows."""
    at, total, size = {start: rows}, add.copy(), np.abs(add)
    for index in range(start, 0, -1):
        if index not in at:
            continue
        step, rows = steps[index], at.pop(index)
        for source, part, const in _bound_backward(step, rows, known):
            total, size = total + const, size + np.abs(const)
            at[source] = at[source] + part if source in at else part
    rows, (low, high) = at.get(0, np.zeros((len(add), len(known[0][0])))), known[0]
    value = np.maximum(rows, 0) @ low + np.minimum(rows, 0) @ high
    size = size + np.abs(rows) @ np.maximum(np.abs(low), np.abs(high))
    return np.asarray(total + value - SLACK * (1e-3 + size))


def _bound_backward(
    step: Step, rows: Array, known: list[tuple[Array, Array]]
) -> list[tuple[int, Array, Array]]:
    if step.slope is not None:
        return [(step.inputs[0], *_through_relu(rows, step.slope, *known[step.inputs[0]]))]
    if step.windows is not None:
        return [(step.inputs[0], *_through_pool(rows, step, *known[step.inputs[0]]))]
    assert step.shift is not None
    shifts = [rows @ step.shift] + [np.zeros(len(rows))] * (len(step.inputs) - 1)
    return [
        (source, np.asarray(rows @ matrix), shift)
        for source, matrix, shift in zip(step.inputs, step.matrices, shifts, strict=True)
    ]


def _through_relu(rows: Array, slope: float, low: Array, high: Array) -> tuple[Array, Array]:
    active, dead = low >= 0, high <= 0
    width = np.where(active | dead, 1.0, high - low)
    chord = np.where(active, 1.0, np.where(dead, slope, (high - slope * low) / width))
    below = np.where(active | (~dead & (high > -low)), 1.0, slope)
    lift = np.where(active | dead, 0.0, (slope - chord) * low)
    negative = np.minimum(rows, 0)
    return np.maximum(rows, 0) * below + negative * chord, negative @ lift


def _through_pool(rows: Array, step: Step, low: Array, high: Array) -> tuple[Array, Array]:
    assert step.windows is not None
    inside = np.where(step.windows >= 0, low[step.windows], -np.inf)
    best = np.take_along_axis(step.windows, inside.argmax(1)[:, None], 1)[:, 0]
    ceiling = _largest(high, step)
    out = np.zeros((len(low), len(rows)))
    np.add.at(out, best, np.maximum(rows, 0).T)
    return out.T, np.minimum(rows, 0) @ ceiling
