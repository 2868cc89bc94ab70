"""Rows of several runs that are one measurement, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from suture.evaluate.records import Kind, Role
from suture.report.cells import AccuracyCell, MeasuredCell, measure
from suture.report.comparison.compared import ComparedRun
from suture.report.comparison.paired import PairedCounts, paired
from suture.report.pairing import likeness
from suture.report.tables import GROUPS, group_of, group_title

_SIDES = {Role.DEFENDED: "after the repair", Role.UNDEFENDED: "before the repair"}


@dataclass(frozen=True)
class ComparedRow:
    """One measurement in every run.

    Attributes:
        group: its protocol in words, and whose accuracy it is.
        name: the measurement in words.
        cells: one a run, ``None`` where it was not measured.
        names: what each run calls it, where they differ in how draws are averaged; else empty.
        drawn: whether a run's model draws, so that an image's outcome is that of one decision.
        pairs: the first run against each other one, ``None`` where their images differ.
        repeated: whether a run measured it several times; pairs are of the first time.
    """

    group: str
    name: str
    cells: tuple[AccuracyCell | None, ...]
    pairs: tuple[PairedCounts | None, ...]
    repeated: bool
    names: tuple[str, ...] = ()
    drawn: bool = False

    @property
    def changes(self) -> tuple[float | None, ...]:
        """Each other run minus the first, in percentage points."""
        first, *others = self.cells
        return tuple(c.percent - first.percent if c and first else None for c in others)


def compared_rows(runs: Sequence[ComparedRun]) -> list[ComparedRow]:
    """Every measurement that at least two runs share, in the order of the first that has it."""
    found = [_by_key(run) for run in runs]
    keys = list(dict.fromkeys(key for own in found for key in own))
    shared = [key for key in keys if sum(key in own for own in found) > 1]
    sides, groups = list(_SIDES), list(GROUPS)
    cells = [[own.get(key) for own in found] for key in shared]
    cells.sort(key=lambda row: _place(row, sides, groups))
    return [_row(row) for row in cells]


def _place(row: list[MeasuredCell | None], sides: list[Role], groups: list[str]) -> tuple[int, int]:
    first = next(m for m in row if m).first
    return sides.index(first.role), groups.index(group_of(first))


def alone(runs: Sequence[ComparedRun]) -> list[tuple[str, str]]:
    """``(letter, name)`` of measurements that only one run has."""
    found = [_by_key(run) for run in runs]
    return [
        (run.letter, m.first.row)
        for run, own in zip(runs, found, strict=True)
        for key, m in own.items()
        if sum(key in other for other in found) == 1
    ]


def _by_key(run: ComparedRun) -> dict[object, MeasuredCell]:
    measured = measure(r for r in run.data.records if r.kind is not Kind.CURVE)
    found: dict[object, MeasuredCell] = {}
    # How many draws a query averages says nothing of a model that does not draw: of several rows
    # that differ in it alone the lowest stands beside the other run's, the others for themselves.
    for m in sorted(measured, key=lambda m: m.cell.percent):
        key = _key(m)
        found.setdefault(key if key not in found else (key, m.first.draws), m)
    return dict(sorted(found.items(), key=lambda item: measured.index(item[1])))


def _key(m: MeasuredCell) -> object:
    first = m.first
    return (*likeness(first), first.role, first.protocol, first.through, first.position)


def _row(cells: list[MeasuredCell | None]) -> ComparedRow:
    known = [m for m in cells if m]
    first = known[0].first
    title = group_title(group_of(first), has_defence=True)
    base = cells[0]
    return ComparedRow(
        group=f"{title}, {_SIDES[first.role]}",
        name=first.row,
        cells=tuple(m.cell if m else None for m in cells),
        pairs=tuple(paired(base.first, m.first) if base and m else None for m in cells[1:]),
        repeated=any(len(m.records) > 1 for m in known),
        names=_names(cells),
        drawn=any(m.first.draws is not None for m in known),
    )


def _names(cells: list[MeasuredCell | None]) -> tuple[str, ...]:
    told = tuple(m.first.row if m else "" for m in cells)
    return told if len({name for name in told if name}) > 1 else ()
