"""The small plot inside each row of the table: both accuracies with their intervals."""

from __future__ import annotations

from markupsafe import Markup

from suture.report.cells import AccuracyCell
from suture.report.tables import TableRow

WIDTH, HEIGHT, EDGE = 180, 26, 6


def interval_plot(row: TableRow) -> Markup:
    """Hollow: undefended; filled: defended. The axis runs from 0 to 100 %."""
    marks = [
        _mark(cell, y, look)
        for cell, y, look in ((row.undefended, 8, "before"), (row.defended, 18, row.group))
        if cell
    ]
    frame = "".join(f'<path class="tick" d="M{_x(v):g} 0V{HEIGHT}"/>' for v in (0, 25, 50, 75, 100))
    return Markup(
        '<svg class="interval" viewBox="0 0 {w} {h}" width="{w}" height="{h}" '
        'aria-hidden="true">{frame}{marks}</svg>'
    ).format(w=WIDTH, h=HEIGHT, frame=Markup(frame), marks=Markup("").join(marks))


def _x(percent: float) -> float:
    return EDGE + percent / 100 * (WIDTH - 2 * EDGE)


def _mark(cell: AccuracyCell, y: int, look: str) -> Markup:
    return Markup(
        '<g class="mark {look}"><path d="M{low:.1f} {y}H{high:.1f}"/>'
        '<circle cx="{at:.1f}" cy="{y}" r="3.6"/></g>'
    ).format(look=look, low=_x(cell.low), high=_x(cell.high), at=_x(cell.percent), y=y)
