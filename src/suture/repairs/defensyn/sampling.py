"""Random programs (DefEnSyn, Algorithm 2), each from its own counter-based stream.

Program ``i`` of a length is a pure function of the seed, the length and ``i``: the same programs
come out for any chunk size, number of processes or device. SplitMix64 as in ``suture.rng``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from suture.engine.threads import compiled
from suture.repairs.defensyn.encoding import NOTHING, Encoded, empty
from suture.rng import GOLDEN, MIX1, MIX2, Stream

LANES = 8
_GOLDEN, _MIX1, _MIX2 = np.uint64(GOLDEN), np.uint64(MIX1), np.uint64(MIX2)
_S11, _S27, _S30, _S31 = (np.uint64(shift) for shift in (11, 27, 30, 31))
_UNIT = 2.0**-53


@dataclass(frozen=True, eq=False)
class Sampler:
    """What programs are drawn from.

    Attributes:
        left, right: float64 ``(m,)``, probabilities of repaired and repairing features.
        low, high: interval of constants [l, u).
        stream: seed of this length's programs.
    """

    left: NDArray[np.float64]
    right: NDArray[np.float64]
    low: float
    high: float
    stream: Stream

    def draw(self, start: int, count: int, length: int) -> Encoded:
        """Programs ``start … start + count - 1`` of that length."""
        encoded = empty(count, length)
        key = np.uint64(self.stream.key & 0xFFFFFFFFFFFFFFFF)
        args = (key, start, _cumulative(self.left), _cumulative(self.right), self.low, self.high)
        with compiled():
            _fill(*args, *encoded.arrays)
        return encoded


def _cumulative(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cumulative sums whose last entry is exactly 1, so that every draw finds a feature."""
    total = np.cumsum(probabilities)
    total /= total[-1]
    total[-1] = 1.0
    return total


@numba.njit(cache=True, inline="always")
def _mix(state):  # type: ignore[no-untyped-def]
    state = (state ^ (state >> _S30)) * _MIX1
    state = (state ^ (state >> _S27)) * _MIX2
    return state ^ (state >> _S31)


@numba.njit(cache=True, inline="always")
def _unit(key, counter):  # type: ignore[no-untyped-def]
    """float64 in [0, 1): the top 53 bits of the counter's hash."""
    return np.float64(_mix(key + np.uint64(counter + 1) * _GOLDEN) >> _S11) * _UNIT


@numba.njit(cache=True, inline="always")
def _pick(cumulative, draw):  # type: ignore[no-untyped-def]
    """First index whose cumulative probability exceeds the draw."""
    low, high = 0, len(cumulative) - 1
    while low < high:
        middle = (low + high) // 2
        if draw < cumulative[middle]:
            high = middle
        else:
            low = middle + 1
    return low


@numba.njit(cache=True, parallel=True)
def _fill(key, start, left_cdf, right_cdf, low, high, target, op, left, right, lc, rc):  # type: ignore[no-untyped-def]
    """Algorithm 2, once per row and instruction; numbered as in ``language.Opcode``."""
    count, length = target.shape
    for row in numba.prange(count):
        own = _mix(key + np.uint64(start + row + 1) * _GOLDEN)
        for step in range(length):
            base = step * LANES
            target[row, step] = _pick(left_cdf, _unit(own, base))
            first = _pick(right_cdf, _unit(own, base + 1))
            second = _pick(right_cdf, _unit(own, base + 2))
            constant = np.float32(low + (high - low) * _unit(own, base + 3))
            d1 = int(3.0 * _unit(own, base + 4))
            d2 = int(3.0 * _unit(own, base + 5))
            operation = 1 + int(6.0 * _unit(own, base + 6))
            kind = int(3.0 * _unit(own, base + 7))
            lc[row, step] = np.float32(0.0)
            rc[row, step] = np.float32(0.0)
            right[row, step] = NOTHING
            if kind == 0:
                op[row, step], left[row, step] = 0, NOTHING
                lc[row, step] = constant
            elif kind == 1:
                op[row, step], left[row, step] = 0, first
            else:
                op[row, step] = operation
                left[row, step] = NOTHING if d1 == 0 else (first if d1 == 1 else second)
                right[row, step] = NOTHING if d2 == 0 else (first if d2 == 1 else second)
                lc[row, step] = constant if d1 == 0 else np.float32(0.0)
                rc[row, step] = constant if d2 == 0 else np.float32(0.0)
