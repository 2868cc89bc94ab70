"""Tables of a study: plain text in rows, so that a page or a terminal can show them."""

from __future__ import annotations

from dataclasses import dataclass

from suture.evaluate.metrics import clopper_pearson


@dataclass(frozen=True)
class Sheet:
    """One table.

    Attributes:
        title: what it shows, with the paper's number of the table.
        header: names of the columns.
        rows: one tuple of texts a row, as long as the header.
        caption: what to read off, what the columns mean.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.header) for row in self.rows), self.title


def interval(right: float, n: int) -> tuple[float, float]:
    """95 % Clopper-Pearson interval in percent."""
    low, high = clopper_pearson(right, n)
    return 100.0 * low, 100.0 * high


def rate(right: float, n: int) -> str:
    """A share with what is behind it; in expectation over draws it need not be a whole number.

    >>> rate(97, 100)
    '97.0 % [91.5, 99.4] (97/100)'
    >>> rate(7.73, 100)
    '7.7 % [3.4, 14.7] (7.7/100)'
    >>> rate(0, 0)
    '– (0/0)'
    """
    if n == 0:
        return "– (0/0)"
    low, high = interval(right, n)
    return f"{100 * right / n:.1f} % [{low:.1f}, {high:.1f}] ({round(right, 1):g}/{n})"
