"""What counts of votes say: pure functions of whole numbers (Cohen et al. 2019, section 3.2)."""

from __future__ import annotations

from scipy.special import bdtr, betaincinv

ABSTAIN = -1
"""Stands where a class would."""


def lower_bound(hits: int, n: int, alpha: float) -> float:
    """LowerConfBound: the share is at least this with probability ``1 - alpha`` (Clopper-Pearson).

    >>> round(lower_bound(100_000, 100_000, 0.001), 6)
    0.999931
    """
    return float(betaincinv(hits, n - hits + 1, alpha)) if hits else 0.0


def prediction(counts: list[int], alpha: float) -> int:
    """PREDICT: the class with most votes, or ``ABSTAIN`` where chance alone may have put it first.

    A two-sided binomial test of the two largest counts against one half, at level alpha: the answer
    is another class than the smoothed classifier's with probability at most alpha.

    >>> prediction([60, 40], 0.001), prediction([90, 10], 0.001)
    (-1, 0)
    """
    order = sorted(range(len(counts)), key=lambda c: -counts[c])
    first, second = counts[order[0]], counts[order[1]]
    if first == second:
        return ABSTAIN
    chance = 2.0 * float(bdtr(second, first + second, 0.5))
    return order[0] if chance <= alpha else ABSTAIN
