"""Rows → tables for a terminal, an HTML page and Markdown: columns say once what is shown."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from markupsafe import Markup, escape

from suture.evaluate.metrics import clopper_pearson
from suture.report.wording import MISSING

Row = dict[str, Any]
"""One measurement as flat JSON: numbers as numbers, the counts behind every percentage."""
Value = Callable[[Row], Any]
"""What a column reads of a row; ``None`` where the row has nothing."""
Count = tuple[float, int]
"""So many out of so many; expected over draws the first need not be whole."""
BEST = "★ "


@dataclass(frozen=True)
class Column:
    """What one column shows of every row.

    Attributes:
        key: a key of the rows, or a function of a row; without a value the cell is "—".
        title: heading.
        format: the value in words.
        paper: the paper's value for a row; it stands in brackets behind ours.
        score: columns with a score compete in every row; "★" marks the highest.
    """

    key: str | Value
    title: str
    format: Callable[[Any], str] = str
    paper: Value | None = None
    score: Value | None = None

    @property
    def heading(self) -> str:
        """The title, and that the paper's value stands beside ours."""
        return self.title if self.paper is None else f"{self.title} (the paper's)"

    def text(self, row: Row) -> str:
        """The cell of one row."""
        ours = self._worded(row.get(self.key) if isinstance(self.key, str) else self.key(row))
        return ours if self.paper is None else f"{ours} ({self._worded(self.paper(row))})"

    def _worded(self, value: Any) -> str:
        return MISSING if value is None else self.format(value)


@dataclass(frozen=True)
class Table:
    """Rows under columns.

    Attributes:
        columns: what is shown, from left to right.
        rows: what was measured.
        title: what it shows, with the paper's number of the table.
        notes: what to read off, what the columns mean.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str = ""
    notes: str = ""

    @property
    def header(self) -> tuple[str, ...]:
        """Headings of the columns."""
        return tuple(column.heading for column in self.columns)

    @cached_property
    def cells(self) -> tuple[tuple[str, ...], ...]:
        """One tuple of texts a row, as long as the header."""
        return tuple(self._line(row) for row in self.rows)

    def _line(self, row: Row) -> tuple[str, ...]:
        scores = {place: c.score(row) for place, c in enumerate(self.columns) if c.score}
        marked = best(scores)
        return tuple(
            BEST + column.text(row) if place in marked else column.text(row)
            for place, column in enumerate(self.columns)
        )

    def terminal(self) -> str:
        """Title and table as plain text, as wide as they need."""
        from rich.console import Console
        from rich.table import Table as Grid
        from rich.text import Text

        grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in self.header:
            grid.add_column(Text(heading))
        for line in self.cells:
            grid.add_row(*map(Text, line))
        console = Console(file=io.StringIO(), width=10_000, color_system=None)
        with console.capture() as got:
            console.print(grid)
        lines = [line.rstrip() for line in got.get().splitlines()]
        return "\n".join([self.title, *lines] if self.title else lines)

    def html(self) -> Markup:
        """A ``<table>``, without title and notes."""
        head = Markup("").join(Markup('<th scope="col">{}</th>').format(h) for h in self.header)
        body = Markup("\n").join(
            Markup("<tr>{}</tr>").format(Markup("").join(map(_data, line))) for line in self.cells
        )
        return Markup(
            "<table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n</table>"
        ).format(head, body)

    def markdown(self) -> str:
        """GitHub's table, without title and notes."""
        lines = [self.header, ["---"] * len(self.columns), *self.cells]
        return "".join(f"| {' | '.join(map(unpiped, line))} |\n" for line in lines)


def _data(text: str) -> Markup:
    return Markup("<td>{}</td>").format(escape(text))


def unpiped(content: str) -> str:
    """Text that cannot end a cell of a Markdown table."""
    escaped = content.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(escaped.split())


def best(scores: Mapping[Any, float | None]) -> list[Any]:
    """The keys with the highest score, several where they tie; none where nothing has one."""
    known = {key: score for key, score in scores.items() if score is not None}
    return [key for key, score in known.items() if score == max(known.values())]


def counted(right: str, n: str | None = None) -> Value:
    """The counts of a share in a row: key ``right`` out of key ``n``, else ``right`` and "_n"."""
    total = n or f"{right}_n"
    return lambda row: None if row.get(right) is None else (row[right], row[total])


def share(right: str, title: str, n: str | None = None) -> Column:
    """A column of shares with interval and counts."""
    return Column(counted(right, n), title, rated)


def number(spec: str) -> Callable[[Any], str]:
    """A format of numbers: ``number(".1f")``."""
    return lambda value: format(value, spec)


def rated(count: Count) -> str:
    """``rate`` of a pair."""
    return rate(*count)


def rate(right: float, n: int) -> str:
    """A share with what is behind it; in expectation over draws it need not be a whole number.

    >>> rate(97, 100)
    '97.0 % [91.5, 99.4] (97/100)'
    >>> rate(7.73, 100)
    '7.7 % [3.4, 14.7] (7.7/100)'
    >>> rate(0, 0)
    '— (0/0)'
    """
    if n == 0:
        return f"{MISSING} (0/0)"
    low, high = interval(right, n)
    return f"{100 * right / n:.1f} % [{low:.1f}, {high:.1f}] ({round(right, 1):g}/{n})"


def bare_rate(count: Count) -> str:
    """A share in percent with its interval, where the count stands in a column of its own."""
    right, n = count
    if n == 0:
        return MISSING
    low, high = interval(right, n)
    return f"{100 * right / n:.1f} [{low:.1f}, {high:.1f}]"


def interval(right: float, n: int) -> tuple[float, float]:
    """95 % Clopper-Pearson interval in percent."""
    low, high = clopper_pearson(right, n)
    return 100.0 * low, 100.0 * high
