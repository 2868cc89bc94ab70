"""The headline figures of several runs, one line a figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from suture.report.cells import AccuracyCell, MeasuredCell
from suture.report.comparison.compared import ComparedRun
from suture.report.headline import Headline

_LINES: dict[str, Callable[[Headline], MeasuredCell | None]] = {
    "Clean accuracy before": lambda head: head.clean_before,
    "Clean accuracy after": lambda head: head.clean_after,
    "Robust accuracy before, under the same attack": lambda head: head.undefended,
    "Robust accuracy after, as its paper measures it": lambda head: head.paper,
    "Robust accuracy before, strongest known attacker": lambda head: head.undefended_adaptive,
    "Robust accuracy after, attacker who knows the defence": lambda head: head.adaptive,
    "Certified accuracy": lambda head: head.certified,
}


@dataclass(frozen=True)
class HeadlineRow:
    """One headline figure in every run: the cell, and the row of the run that it is from."""

    name: str
    cells: tuple[tuple[AccuracyCell, str] | None, ...]


def headline_rows(runs: Sequence[ComparedRun]) -> list[HeadlineRow]:
    """The headline figures that at least one run has."""
    heads = [run.headline for run in runs]
    rows = [
        HeadlineRow(name, tuple(_cell(choose(head)) for head in heads))
        for name, choose in _LINES.items()
    ]
    return [row for row in rows if any(row.cells)]


def _cell(m: MeasuredCell | None) -> tuple[AccuracyCell, str] | None:
    return None if m is None else (m.cell, m.first.row)
