"""Records → the before/after table: as data, as plain text, as Markdown."""

from __future__ import annotations

from dataclasses import dataclass, replace

from suture.evaluate.records import Kind, Record, Role
from suture.report.asides import aside_of
from suture.report.cells import AccuracyCell, MeasuredCell, measure, on_curve
from suture.report.pairing import likeness, partner
from suture.report.table import Column, Table, unpiped
from suture.report.wording import MISSING, percent, points

GROUPS = {
    "clean": "No attack",
    "attack": "Under attack",
    "paper": "Measured as the paper does",
    "adaptive": "Attacker who knows the defence",
    "sanity": "Sanity checks",
}
_PLAIN_METRICS = ("clean accuracy", "robust accuracy")


@dataclass(frozen=True)
class TableRow:
    """One line of the table: the same measurement before and after the repair.

    Attributes:
        group: key of ``GROUPS``.
        name: the measurement in words.
        undefended, defended: the two accuracies, ``None`` where not measured.
        warnings: sanity checks that the row fails, each a sentence.
        program: whether this is one program of a randomised defence on its own.
        aside: what must be said so that name and number agree.
    """

    group: str
    name: str
    undefended: AccuracyCell | None
    defended: AccuracyCell | None
    warnings: tuple[str, ...] = ()
    program: bool = False
    aside: str = ""

    @property
    def change(self) -> float | None:
        """Defended minus undefended, in percentage points."""
        if self.undefended is None or self.defended is None:
            return None
        return self.defended.percent - self.undefended.percent

    @property
    def change_is_clear(self) -> bool:
        """Whether the two 95 % intervals do not overlap."""
        pair = self.undefended, self.defended
        return pair[0] is not None and pair[1] is not None and pair[0].apart_from(pair[1])

    @property
    def trend(self) -> str:
        """ "up" or "down" for a clear change, else "unclear"; a sanity check is no success."""
        if self.change is None or not self.change_is_clear or self.group == "sanity":
            return "unclear"
        return "up" if self.change > 0 else "down"


def accuracy_rows(records: list[Record]) -> list[TableRow]:
    """The rows of the before/after table, grouped clean, paper, adaptive, sanity.

    Points of an accuracy-against-radius curve are left to the figure, unless there is nothing else.
    An undefended number measured once stands in every group that repeats it, and beside rows that
    only average over draws, which changes nothing for a classifier that does not draw.
    """
    chosen = [record for record in records if not on_curve(record)] or records
    measured = measure(chosen)
    before = [m for m in measured if m.first.role is Role.UNDEFENDED]
    after = [m for m in measured if m.first.role is Role.DEFENDED]
    defences = {(_standing(m), m.first.defence) for m in after}
    ambiguous = len(defences) > len({standing for standing, _ in defences})
    rows, used = [], set()
    for m in after:
        other = partner(m, before)
        used.add(id(other))
        rows.append(replace(_row(m, other, m, show_defence=ambiguous), aside=aside_of(m, measured)))
    alone = [m for m in before if id(m) not in used]
    rows += [replace(_row(m, m, None), aside=aside_of(m, measured)) for m in alone]
    return sorted(rows, key=lambda row: list(GROUPS).index(row.group))


def _standing(m: MeasuredCell) -> tuple[object, ...]:
    return (likeness(m.first), m.first.protocol, m.first.draws, m.first.through, m.first.subject)


def group_of(record: Record) -> str:
    if record.protocol != "none":
        return record.protocol if record.protocol in GROUPS else "attack"
    return "clean" if record.metric == "clean accuracy" else "attack"


def _row(
    m: MeasuredCell,
    before: MeasuredCell | None,
    after: MeasuredCell | None,
    *,
    show_defence: bool = False,
) -> TableRow:
    own = [record for part in (before, after) if part for record in part.records]
    name = m.first.row
    if m.first.metric not in _PLAIN_METRICS:
        name += f" ({m.first.metric})"
    if m.first.subject != m.first.role:
        name += f", {m.first.subject}"
    if show_defence:
        name += f" — {m.first.defence}"
    return TableRow(
        group=group_of(m.first),
        name=name,
        undefended=before.cell if before else None,
        defended=after.cell if after else None,
        warnings=tuple(dict.fromkeys(w for record in own for w in record.warnings)),
        program=m.first.kind is Kind.PROGRAM,
    )


def group_title(group: str, *, has_defence: bool) -> str:
    """Heading of a group; without a defence there is nothing a paper could claim."""
    if has_defence:
        return GROUPS[group]
    return {"paper": GROUPS["attack"], "adaptive": "All attacks"}.get(group, GROUPS[group])


def text(records: list[Record]) -> str:
    """The table for a terminal, without colour or escape codes."""
    rows = accuracy_rows(records)
    if not rows:
        return "No records yet."
    has_defence = any(row.defended for row in rows)
    head = ["", "undefended", "defended", "change"] if has_defence else ["", "accuracy"]
    lines: list[list[str]] = [head]
    group = None
    for row in rows:
        if row.group != group:
            lines.append([group_title(row.group, has_defence=has_defence)])
            group = row.group
        cells = _cells(row)
        flag = " !" if row.warnings else ""
        lines.append([f"  {row.name}{flag}", *(cells if has_defence else cells[:1])])
    notes = [f"! {row.name}: {sentence}" for row in rows for sentence in row.warnings]
    if any(row.change is not None and not row.change_is_clear for row in rows):
        notes.append("~ the 95 % intervals overlap: the change may be chance")
    return "\n".join([*_aligned(lines), *notes])


def _aligned(lines: list[list[str]]) -> list[str]:
    full = [line for line in lines if len(line) > 1]
    widths = [max(len(line[i]) for line in full) for i in range(len(full[0]))]
    padded = [[c.ljust(w) for c, w in zip(line, widths, strict=False)] for line in lines]
    return ["  ".join(line).rstrip() for line in padded]


def markdown(records: list[Record]) -> str:
    """The table in GitHub's Markdown; failed sanity checks follow as a list."""
    rows = accuracy_rows(records)
    has_defence = any(row.defended for row in rows)
    heads = ("", "undefended", "defended", "change") if has_defence else ("", "accuracy")
    columns = [Column(head, head) for head in heads]
    lines = []
    for row in rows:
        flag = " ⚠" if row.warnings else ""
        title = group_title(row.group, has_defence=has_defence)
        cells = (f"{title}: {row.name}{flag}", *_cells(row))
        lines.append(dict(zip(heads, cells, strict=False)))
    notes = [f"- ⚠ {unpiped(row.name)}: {unpiped(w)}\n" for row in rows for w in row.warnings]
    return Table(columns, lines).markdown() + "".join(["\n", *notes] if notes else [])


def _cells(row: TableRow) -> tuple[str, str, str]:
    return _plain(row.undefended), _plain(row.defended), _change(row)


def _plain(cell: AccuracyCell | None) -> str:
    if cell is None:
        return MISSING
    spread = ""
    if cell.spread:
        low, high = cell.spread
        spread = f" (mean of {cell.repeats}, {low:.1f}–{high:.1f})"
    return f"{percent(cell.percent, 1)} [{cell.low:.1f}–{cell.high:.1f}] {cell.counts}{spread}"


def _change(row: TableRow) -> str:
    if row.change is None:
        return MISSING
    return points(row.change) + ("" if row.change_is_clear else " ~")
