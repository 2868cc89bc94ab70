"""Rates of a repair, as counts: the metrics of ``evaluation.md`` that speak of N and F together.

All take decisions, not models; every share comes as ``(count, n)`` so that intervals can follow.
"""

from __future__ import annotations

from torch import Tensor

from suture.errors import ArgumentError

Count = tuple[int, int]


def repair_success(decided: Tensor, wanted: Tensor) -> Count:
    """RSR (or RGR, on other adversarial samples): how many ``F(x*)`` are the true class.

    Args:
        decided: F's classes on the adversarial samples, int64 ``(n,)``.
        wanted: the class of the image that each was made from.
    """
    _same(decided, wanted)
    return int((decided == wanted).sum()), len(wanted)


def drawdown(before: Tensor, after: Tensor, labels: Tensor) -> tuple[int, int, int]:
    """DD in counts: right under N, right under F, n. In points: ``100 · (first - second) / n``."""
    _same(before, after)
    _same(after, labels)
    return int((before == labels).sum()), int((after == labels).sum()), len(labels)


def fidelity_drawdown(before: Tensor, after: Tensor) -> Count:
    """FDD: inputs on which F and N *differ* (the paper's formula has = where it means ≠)."""
    _same(before, after)
    return int((before != after).sum()), len(before)


def defence_success(found: Tensor) -> Count:
    """DSR (or DGSR, on the balls of test images): balls in which the attack finds nothing that F
    gets wrong (the paper's formula counts the failures). An image that is wrong from the start
    counts as found.

    Args:
        found: bool ``(n,)``.
    """
    return int((~found).sum()), len(found)


def points(before: int, after: int, n: int) -> float:
    """A drawdown in percentage points."""
    return 100.0 * (before - after) / n


def _same(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape or one.ndim != 1 or not len(one):
        raise ArgumentError(
            expected="decisions of one shape (n,), n at least 1",
            got=f"{tuple(one.shape)} and {tuple(other.shape)}",
            remedy="Give the decisions of both models on the same inputs.",
        )
