"""What must be said beside a row so that its name and its number agree."""

from __future__ import annotations

import math
from collections.abc import Sequence

from suture.evaluate.records import Kind
from suture.report.cells import MeasuredCell, eps_of

_ATTACKED = (Kind.ATTACK, Kind.PROGRAM, Kind.TRANSFER, Kind.FEWER)


def aside_of(m: MeasuredCell, everything: Sequence[MeasuredCell]) -> str:
    """A remark for rows that sum others up; empty for all others.

    Args:
        m: the row.
        everything: all rows of the run.
    """
    if m.first.kind is Kind.EVERY:
        return "an image counts only where no program is fooled: at or below the row above"
    if m.first.kind is not Kind.STRONGEST:
        return ""
    count = m.first.tags.get("candidates")
    several = f"{count} attacks" if isinstance(count, int) else "all attacks"
    said = f"per image the worst of {several}, so at or below each of them"
    lower = [other for other in everything if _undercuts(other, m)]
    if lower:
        lowest = min(lower, key=lambda other: other.cell.percent)
        said += f"; “{lowest.first.row}” is lower: {_why(lowest, m)}"
    return said


def _undercuts(other: MeasuredCell, m: MeasuredCell) -> bool:
    same = other.first.whose == m.first.whose and other.first.kind in _ATTACKED
    place = other.first.position in ("", m.first.position)
    return same and place and other.cell.percent < m.cell.percent - 1e-9


def _why(other: MeasuredCell, m: MeasuredCell) -> str:
    one, own = other.first, m.first
    if one.threat.get("norm") != own.threat.get("norm"):
        return "its norm is another, so it is none of them"
    if eps_of(one) > eps_of(own) and not math.isclose(eps_of(one), eps_of(own), rel_tol=1e-6):
        return "its radius is larger, so it is none of them"
    if one.kind is Kind.PROGRAM:
        return "it is about one program alone"
    return "its final decision was drawn once an image, this row's number is another draw or a mean"
