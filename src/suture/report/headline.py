"""The rows that speak for a whole run, and their figures: every place that states a headline
(terminal, ``--json``, page, README) takes it from here.

The lowest row under each protocol, one threat, before and after under one attack.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from suture.evaluate.records import Kind, Record, Role
from suture.report.cells import MeasuredCell, eps_of, measure
from suture.report.pairing import likeness, partner

# Rows about something else than the classifier with its next draw: one program alone, or all of
# them at once.
_ASIDE = (Kind.PROGRAM, Kind.EVERY)
_ATTACKS = (Kind.ATTACK, Kind.STRONGEST, Kind.TRANSFER, Kind.CURVE, *_ASIDE)
_METRICS = ("robust accuracy", "empirical robustness")


@dataclass(frozen=True)
class Headline:
    """The measurements a verdict rests on, each ``None`` where the run has none.

    Attributes:
        clean_before, clean_after: accuracy without an attack.
        undefended: the unrepaired classifier under the attack that the headline names.
        paper: the repaired classifier's lowest row as its paper measures.
        adaptive: its lowest row against an attacker who knows the defence, at that radius or less.
        undefended_adaptive: the unrepaired classifier in that adaptive row; where it was not
            measured there, ``undefended``. Without a repaired one, its own lowest adaptive row.
        every: images right whatever the classifier draws, where that was measured.
        preempted: the lowest adaptive row of an attacker who comes before a defence that moves
            images; ``adaptive`` and ``paper`` are then about one who comes after the move.
        certified: the largest share of images that a bound certifies after the move.
        unbounded: before and after under attacks without a radius, where the rows above have one.
        others: names of further classifiers, which the headline is not about.
    """

    clean_before: MeasuredCell | None
    clean_after: MeasuredCell | None
    undefended: MeasuredCell | None
    paper: MeasuredCell | None
    adaptive: MeasuredCell | None
    undefended_adaptive: MeasuredCell | None = None
    every: MeasuredCell | None = None
    preempted: MeasuredCell | None = None
    certified: MeasuredCell | None = None
    unbounded: tuple[tuple[MeasuredCell | None, MeasuredCell | None], ...] = ()
    others: tuple[str, ...] = ()

    @property
    def named(self) -> MeasuredCell | None:
        """The measurement whose attack and radius the verdict names."""
        return self.paper or self.adaptive or self.undefended

    @property
    def figures(self) -> dict[str, Any]:
        """The headline in percent, ``None`` where not measured."""
        return {
            "clean_accuracy": _percent(self.clean_before),
            "clean_accuracy_defended": _percent(self.clean_after),
            "robust_accuracy": {
                "before": _percent(self.undefended),
                "before_adaptive": _percent(self.undefended_adaptive),
                "after_paper": _percent(self.paper),
                "after_adaptive": _percent(self.adaptive),
                "attacker_before_the_move": _percent(self.preempted),
            },
            "certified_accuracy": _percent(self.certified),
        }


def _percent(m: MeasuredCell | None) -> float | None:
    return None if m is None else m.cell.percent


def headline(records: list[Record]) -> Headline:
    """Choose the rows a verdict must rest on: never the best, always the lowest."""
    chosen, others = _one_of_each(records)
    rows, unbounded = _attacked(chosen)
    attacked = measure([r for r in rows if r.kind not in _ASIDE] or rows)
    before, everything = _of(attacked, Role.UNDEFENDED), _of(attacked, Role.DEFENDED)
    after = [m for m in everything if m.first.position != "before"] or everything
    earlier = [m for m in everything if m not in after]
    paper = _lowest([m for m in after if m.first.protocol != "adaptive"])
    adaptive = _lowest_comparable(_adaptive(after), paper)
    undefended = _baseline(before, paper or adaptive)
    return Headline(
        clean_before=_clean(chosen, Role.UNDEFENDED),
        clean_after=_clean(chosen, Role.DEFENDED),
        undefended=undefended,
        paper=paper,
        adaptive=adaptive,
        undefended_adaptive=_adaptive_baseline(before, adaptive, undefended, defended=bool(after)),
        every=_lowest(measure(r for r in rows if r.kind is Kind.EVERY)),
        preempted=_lowest(_adaptive(earlier)),
        certified=_highest(measure(r for r in chosen if _proved_after_the_move(r))),
        unbounded=_pairs(measure(r for r in unbounded if r.kind is Kind.ATTACK)),
        others=others,
    )


def _proved_after_the_move(record: Record) -> bool:
    return record.kind is Kind.CERTIFIED and record.position == "after"


def _one_of_each(records: list[Record]) -> tuple[list[Record], tuple[str, ...]]:
    """The records of the first classifier of each role, and the names of the others."""
    everyone = list(dict.fromkeys(record.whose for record in records))
    firsts = {role: (role, name) for role, name in reversed(everyone)}
    chosen = [record for record in records if record.whose in firsts.values()]
    return chosen, tuple(name for role, name in everyone if firsts[role] != (role, name))


def _attacked(records: list[Record]) -> tuple[list[Record], list[Record]]:
    """Rows under a real attack, and those without a radius if there are others with one."""
    real = [r for r in records if r.protocol != "sanity" and r.kind in _ATTACKS]
    for metric in _METRICS:
        found = [r for r in real if r.metric == metric]
        rows = [r for r in found if r.kind is not Kind.CURVE] or found
        bounded = [r for r in rows if not math.isinf(eps_of(r))]
        if rows:
            return (bounded, [r for r in rows if math.isinf(eps_of(r))]) if bounded else (rows, [])
    return [], []


def _of(measured: list[MeasuredCell], role: Role) -> list[MeasuredCell]:
    return [m for m in measured if m.first.role is role]


def _adaptive(measured: list[MeasuredCell]) -> list[MeasuredCell]:
    return [m for m in measured if m.first.protocol == "adaptive"]


def _pairs(
    measured: list[MeasuredCell],
) -> tuple[tuple[MeasuredCell | None, MeasuredCell | None], ...]:
    """Before and after under each attack; of several rows after the repair the lowest."""
    before, after = _of(measured, Role.UNDEFENDED), _of(measured, Role.DEFENDED)
    found: dict[object, tuple[MeasuredCell | None, MeasuredCell | None]] = {}
    for m in sorted(after, key=lambda m: m.cell.percent):
        found.setdefault(likeness(m.first), (partner(m, before), m))
    for m in sorted(before, key=lambda m: m.cell.percent):
        found.setdefault(likeness(m.first), (m, None))
    return tuple(found.values())


def _clean(records: list[Record], role: Role) -> MeasuredCell | None:
    own = measure(r for r in records if r.kind is Kind.CLEAN and r.role is role)
    return own[0] if own else None


def _lowest(candidates: list[MeasuredCell]) -> MeasuredCell | None:
    return min(candidates, key=lambda m: m.cell.percent, default=None)


def _highest(candidates: list[MeasuredCell]) -> MeasuredCell | None:
    return max(candidates, key=lambda m: m.cell.percent, default=None)


def same_threat(m: MeasuredCell, other: MeasuredCell) -> bool:
    """Whether both rows have one norm and one radius."""
    norms = {m.first.threat.get("norm"), other.first.threat.get("norm")}
    return len(norms) == 1 and math.isclose(eps_of(m.first), eps_of(other.first), rel_tol=1e-6)


def _no_larger(m: MeasuredCell, other: MeasuredCell) -> bool:
    smaller = eps_of(m.first) <= eps_of(other.first)
    return same_threat(m, other) or (
        m.first.threat.get("norm") == other.first.threat.get("norm") and smaller
    )


def _lowest_comparable(
    candidates: list[MeasuredCell], paper: MeasuredCell | None
) -> MeasuredCell | None:
    comparable = [m for m in candidates if paper is None or _no_larger(m, paper)]
    return _lowest(comparable or candidates)


def _baseline(before: list[MeasuredCell], chosen: MeasuredCell | None) -> MeasuredCell | None:
    if chosen is None:
        return _lowest(before)
    same = [m for m in before if same_threat(m, chosen)]
    return partner(chosen, before) or _lowest(same)


def _adaptive_baseline(
    before: list[MeasuredCell],
    adaptive: MeasuredCell | None,
    undefended: MeasuredCell | None,
    *,
    defended: bool,
) -> MeasuredCell | None:
    if adaptive is None:
        return None if defended else _lowest(_adaptive(before))
    strongest = _lowest([m for m in before if m.first.kind is Kind.STRONGEST])
    return partner(adaptive, before) or strongest or undefended


def claimed(head: Headline) -> tuple[MeasuredCell, MeasuredCell] | None:
    """The paper's row after and before the repair; the adaptive one where there is no other."""
    if head.paper is None:
        return informed(head)
    return (head.paper, head.undefended) if head.undefended else None


def informed(head: Headline) -> tuple[MeasuredCell, MeasuredCell] | None:
    """The lowest adaptive row after and before the repair, under one and the same attack."""
    if head.adaptive is None or head.undefended_adaptive is None:
        return None
    return head.adaptive, head.undefended_adaptive


def above(after: MeasuredCell, before: MeasuredCell) -> bool:
    """Whether the 95 % intervals are apart, the repaired one higher."""
    return after.cell.low > before.cell.high


def gain(after: MeasuredCell, before: MeasuredCell) -> float:
    """Percentage points between two measurements."""
    return after.cell.percent - before.cell.percent
