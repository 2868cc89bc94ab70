"""Which measurements speak for a whole run: the worst rows under each protocol, one threat."""

from __future__ import annotations

import math
from dataclasses import dataclass

from suture.evaluate.records import Kind, Record, Role
from suture.report.cells import Measured, eps_of, measure, on_curve
from suture.report.pairing import partner

# Rows about something else than the defended classifier with its next draw: one program alone,
# or all of them at once.
_ASIDE = (Kind.PROGRAM, Kind.EVERY)
_ATTACKED = ("robust accuracy", "empirical robustness")


@dataclass(frozen=True)
class Headline:
    """The measurements a verdict rests on, each ``None`` where the run has none.

    Attributes:
        clean_before, clean_after: accuracy without an attack.
        undefended: the unrepaired classifier under the attack that the headline names.
        paper: the repaired classifier's lowest row as its paper measures.
        adaptive: its lowest row against an attacker who knows the defence, at that radius or less.
        undefended_adaptive: the unrepaired classifier in that adaptive row; where it was not
            measured there, ``undefended``.
        every: images right whatever the classifier draws, where that was measured.
    """

    clean_before: Measured | None
    clean_after: Measured | None
    undefended: Measured | None
    paper: Measured | None
    adaptive: Measured | None
    undefended_adaptive: Measured | None = None
    every: Measured | None = None

    @property
    def named(self) -> Measured | None:
        """The measurement whose attack and radius the verdict names."""
        return self.paper or self.adaptive or self.undefended


def headline(records: list[Record]) -> Headline:
    """Choose the rows a verdict must rest on: never the best, always the lowest."""
    rows = _attacked(records)
    attacked = measure([r for r in rows if r.kind not in _ASIDE] or rows)
    after = [m for m in attacked if m.first.role is Role.DEFENDED]
    before = [m for m in attacked if m.first.role is Role.UNDEFENDED]
    paper = _lowest([m for m in after if m.first.protocol != "adaptive"])
    adaptive = _lowest_comparable([m for m in after if m.first.protocol == "adaptive"], paper)
    undefended = _baseline(before, paper or adaptive)
    return Headline(
        clean_before=_clean(records, defended=False),
        clean_after=_clean(records, defended=True),
        undefended=undefended,
        paper=paper,
        adaptive=adaptive,
        undefended_adaptive=_same_row(before, adaptive) or undefended,
        every=_lowest(measure(r for r in rows if r.kind is Kind.EVERY)),
    )


def _attacked(records: list[Record]) -> list[Record]:
    real = [r for r in records if r.protocol != "sanity" and not math.isinf(eps_of(r))]
    for metric in _ATTACKED:
        found = [r for r in real if r.metric == metric]
        rows = [r for r in found if not on_curve(r)] or found
        if rows:
            return rows
    return []


def _clean(records: list[Record], *, defended: bool) -> Measured | None:
    clean = [r for r in records if r.metric == "clean accuracy" and not on_curve(r)]
    own = measure(r for r in clean if (r.role is Role.DEFENDED) == defended)
    return own[0] if own else None


def _lowest(candidates: list[Measured]) -> Measured | None:
    return min(candidates, key=lambda m: m.cell.percent, default=None)


def same_threat(m: Measured, other: Measured) -> bool:
    """Whether both rows have one norm and one radius."""
    norms = {m.first.threat.get("norm"), other.first.threat.get("norm")}
    return len(norms) == 1 and math.isclose(eps_of(m.first), eps_of(other.first), rel_tol=1e-6)


def _no_larger(m: Measured, other: Measured) -> bool:
    smaller = eps_of(m.first) <= eps_of(other.first)
    return same_threat(m, other) or (
        m.first.threat.get("norm") == other.first.threat.get("norm") and smaller
    )


def _lowest_comparable(candidates: list[Measured], paper: Measured | None) -> Measured | None:
    comparable = [m for m in candidates if paper is None or _no_larger(m, paper)]
    return _lowest(comparable or candidates)


def _baseline(before: list[Measured], chosen: Measured | None) -> Measured | None:
    if chosen is None:
        return _lowest(before)
    same = [m for m in before if same_threat(m, chosen)]
    return _same_row(before, chosen) or _lowest(same)


def _same_row(before: list[Measured], chosen: Measured | None) -> Measured | None:
    """The undefended classifier under the very attack that the chosen row names."""
    if chosen is None:
        return None
    return partner(chosen, before)


def claimed(head: Headline) -> tuple[Measured, Measured] | None:
    """The paper's row after and before the repair; the adaptive one where there is no other."""
    if head.paper is None:
        return informed(head)
    return (head.paper, head.undefended) if head.undefended else None


def informed(head: Headline) -> tuple[Measured, Measured] | None:
    """The lowest adaptive row after and before the repair, under one and the same attack."""
    if head.adaptive is None or head.undefended_adaptive is None:
        return None
    return head.adaptive, head.undefended_adaptive


def above(after: Measured, before: Measured) -> bool:
    """Whether the 95 % intervals are apart, the repaired one higher."""
    return after.cell.low > before.cell.high


def gain(after: Measured, before: Measured) -> float:
    """Percentage points between two measurements."""
    return after.cell.percent - before.cell.percent
