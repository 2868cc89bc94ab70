"""Counts and intervals: pure functions on whole numbers and tensors."""

from __future__ import annotations

from scipy.special import betaincinv
from torch import Tensor

_NONE = 1e-3
"""Below so few successes the lower bound, about ``tail ** (1 / right)``, is 0 in float64."""


def clopper_pearson(right: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided binomial interval for a share (Clopper & Pearson 1934).

    Args:
        right: successes, 0 <= right <= n; an expected number of them need not be whole.
        n: trials, at least 1.
        confidence: coverage, at least that much.

    Returns:
        Lower and upper bound of the share, each in [0, 1].

    >>> tuple(round(v, 4) for v in clopper_pearson(8, 10))
    (0.4439, 0.9748)
    """
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if right < _NONE else float(betaincinv(right, n - right + 1, tail))
    high = 1.0 if n - right < _NONE else float(betaincinv(right + 1, n - right, 1.0 - tail))
    return low, high


def per_class(right: Tensor, labels: Tensor) -> list[list[int]]:
    """``[right, n]`` for each class 0 … max(labels)."""
    count = int(labels.max()) + 1
    total = labels.bincount(minlength=count).tolist()
    hits = labels[right].bincount(minlength=count).tolist()
    return [[int(h), int(t)] for h, t in zip(hits, total, strict=True)]


def robust_after(queries: list[int | None], budgets: list[int]) -> list[int]:
    """How many images are still classified right once the attacker spent each budget.

    Args:
        queries: per image, forwards at success (0 if wrong from the start), ``None`` if it held.
        budgets: numbers of queries, any order.
    """
    return [sum(1 for q in queries if q is None or q > budget) for budget in budgets]
