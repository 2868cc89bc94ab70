"""Two measurements of the same images: who was right where the other was not."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import binomtest

from suture.evaluate.records import Record


@dataclass(frozen=True)
class PairedCounts:
    """Images by who was right on them.

    Attributes:
        both, first, second, neither: counts: right in both runs, only in the first, only in the
            second, in none.
    """

    both: int
    first: int
    second: int
    neither: int

    @property
    def p(self) -> float:
        """McNemar's exact two-sided p-value."""
        return mcnemar(self.first, self.second)


def mcnemar(first: int, second: int) -> float:
    """Exact two-sided p-value of McNemar's test (1947): 2·P[Bin(b + c, ½) <= min(b, c)], at most 1.

    Args:
        first, second: the discordant counts b and c.

    >>> mcnemar(1, 9)
    0.021484375
    >>> mcnemar(0, 0)
    1.0
    """
    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def paired(one: Record, other: Record) -> PairedCounts | None:
    """The counts of two records; ``None`` unless both tell the outcome of the same images."""
    if not same_images(one, other) or not one.each or len(one.each) != len(other.each):
        return None
    pairs = list(zip(one.each, other.each, strict=True))
    return PairedCounts(*(pairs.count((a, b)) for a, b in ("11", "10", "01", "00")))


def same_images(one: Record, other: Record) -> bool:
    """Whether both are known to have measured the same images with the same labels."""
    return bool(one.images) and one.images == other.images
