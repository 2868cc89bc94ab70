"""Records of one row, repeated or not, as one number with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from suture.evaluate.records import Kind, Record, identity


@dataclass(frozen=True)
class AccuracyCell:
    """An accuracy, possibly the mean of several repeats, all values in percent.

    Attributes:
        percent: the accuracy; with repeats their mean.
        low, high: the 95 % interval; with repeats from the lowest lower to the highest upper end,
            so that it covers both the choice of images and the randomness of the row.
        spread: smallest and largest accuracy over the repeats, ``None`` for a single measurement.
        right: images classified right, one count per repeat; in expectation where that is known.
        n: images measured in each repeat (the smallest, should they differ).
    """

    percent: float
    low: float
    high: float
    spread: tuple[float, float] | None
    right: tuple[float, ...]
    n: int

    @property
    def counts(self) -> str:
        """``154/200``, or ``149–154/200`` when repeats differ."""
        low, high = min(self.right), max(self.right)
        ends = dict.fromkeys(f"{end:.1f}".removesuffix(".0") for end in (low, high))
        return f"{'–'.join(ends)}/{self.n}"

    @property
    def repeats(self) -> int:
        """How often the row was measured."""
        return len(self.right)

    def apart_from(self, other: AccuracyCell) -> bool:
        """Whether the two intervals have no value in common."""
        return self.low > other.high or other.low > self.high


@dataclass(frozen=True)
class MeasuredCell:
    """The records behind one cell of the table, and that cell."""

    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        """The record that speaks for what all repeats share."""
        return self.records[0]

    @property
    def cell(self) -> AccuracyCell:
        """Mean, interval and spread over the repeats."""
        shares = [record.percent for record in self.records]
        intervals = [record.interval for record in self.records]
        return AccuracyCell(
            percent=math.fsum(shares) / len(shares),
            low=min(low for low, _ in intervals),
            high=max(high for _, high in intervals),
            spread=(min(shares), max(shares)) if len(shares) > 1 else None,
            right=tuple(record.count for record in self.records),
            n=min(record.n for record in self.records),
        )


def eps_of(record: Record) -> float:
    """The radius of a record's threat; -1 where there is none, as for clean accuracy.

    Strict JSON has no infinity, so an unbounded radius may come as the text ``"inf"``.
    """
    eps = record.threat.get("eps")
    if eps == "inf":
        return math.inf
    return float(eps) if isinstance(eps, int | float) and eps == eps else -1.0


def measure(records: Iterable[Record]) -> list[MeasuredCell]:
    """Records gathered by measurement, in order of first appearance."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(identity(record), []).append(record)
    return [MeasuredCell(tuple(group)) for group in groups.values()]


def on_curve(record: Record) -> bool:
    """Whether a record is a point of accuracy against radius, not a row of the table."""
    return record.kind is Kind.CURVE
