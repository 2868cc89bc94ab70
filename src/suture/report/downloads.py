"""Figures and tables as links that save a file: ``data:`` URIs, so no server and no script."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Sequence

from suture.report.cells import AccuracyCell
from suture.report.figures.style import Drawing
from suture.report.tables import TableRow, group_title
from suture.report.wording import MISSING, NARROW

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_CELL = ("{} %", "{} low", "{} high", "{} right", "{} n")


def uri(kind: str, text: str) -> str:
    """Text as a ``data:`` URI of this media type."""
    raw = base64.b64encode(text.encode("utf-8", errors="replace")).decode("ascii")
    return f"data:{kind};base64,{raw}"


def svg_uri(figure: Drawing) -> str:
    """The figure as a file of its own."""
    return uri("image/svg+xml", figure.file)


def numbers_uri(figure: Drawing) -> str:
    """The numbers behind a figure as CSV: plain ones, the unit in the head of the column."""
    shares = [
        any(row[i].endswith(_PERCENT) for row in figure.rows) for i in range(len(figure.header))
    ]
    units = zip(figure.header, shares, strict=True)
    header = [f"{name}, %" if share and name else name for name, share in units]
    return csv_uri(header, [[_bare(cell) for cell in row] for row in figure.rows])


_PERCENT = f"{NARROW}%"


def _bare(cell: str) -> str:
    """A number as programs read it; anything else as it is, and nothing for what is missing."""
    plain = cell.removesuffix(_PERCENT).replace(NARROW, "").replace("−", "-")
    return "" if cell == MISSING else plain if _is_number(plain) else cell


def csv_uri(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as CSV (RFC 4180), UTF-8."""
    return uri("text/csv;charset=utf-8", csv_text(header, rows))


def csv_text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same as text. What a spreadsheet would take for a formula becomes text by an apostrophe.

    >>> csv_text(("a", "b"), [("=1+1", "-0.5")])
    "a,b\\r\\n'=1+1,-0.5\\r\\n"
    """
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerows([_harmless(str(cell)) for cell in row] for row in (header, *rows))
    return stream.getvalue()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) and not _is_number(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def results_csv(rows: Iterable[TableRow], *, has_defence: bool) -> str:
    """The before/after table as a ``data:`` URI: percent, interval and counts in columns."""
    sides = ("undefended", "defended") if has_defence else ("accuracy",)
    header = ["group", "measurement", *(c.format(side) for side in sides for c in _CELL)]
    lines = [
        [
            group_title(row.group, has_defence=has_defence),
            row.name,
            *_cell(row.undefended),
            *(_cell(row.defended) if has_defence else ()),
            "; ".join(row.warnings),
        ]
        for row in rows
    ]
    return csv_uri([*header, "failed sanity checks"], lines)


def _cell(cell: AccuracyCell | None) -> tuple[str, ...]:
    if cell is None:
        return ("",) * len(_CELL)
    right = sum(cell.right) / cell.repeats
    return (*(f"{v:.4g}" for v in (cell.percent, cell.low, cell.high, right)), str(cell.n))
