"""Records → the lines of a figure: numbers only, no drawing.

A panel holds one attack: its lines differ in the model, and in how the attack met it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from suture.attacks import ATTACKS
from suture.evaluate.labels import named, variant
from suture.evaluate.metrics import clopper_pearson, robust_after
from suture.evaluate.records import Kind, Record, Role
from suture.report.cells import MeasuredCell, eps_of, measure, on_curve
from suture.report.headline import headline
from suture.report.pairing import same_attack

_ORDER = ("undefended", "paper", "adaptive")


@dataclass(frozen=True)
class Series:
    """One line: accuracy ``y`` at each ``x`` in percent, between ``low`` and ``high``.

    ``source`` says how the attack met the model, where there is something to say.
    """

    name: str
    look: str
    source: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    counts: tuple[str, ...]


@dataclass(frozen=True)
class Panel:
    """The lines of one attack, which may stand beside each other.

    Attributes:
        attack, norm: in words.
        lines: in reading order.
        missing: "undefended" or "defended" where the run has such a model, but not under this
            attack; else empty.
        asks: what its queries tell the attacker: gradients, scores, or decisions alone.
    """

    attack: str
    norm: str
    lines: tuple[Series, ...]
    missing: str = ""
    asks: str = "score queries"


def look_of(record: Record) -> str:
    """Which of the looks a record has: undefended, paper or adaptive."""
    if record.role is Role.UNDEFENDED:
        return "undefended"
    return "adaptive" if record.protocol == "adaptive" else "paper"


def label_of(look: str) -> str:
    """A series in words; short, since it stands beside its line."""
    return {"paper": "defended,\nas in paper", "adaptive": "defended,\nadaptive"}.get(look, look)


def radius_panels(records: list[Record]) -> list[Panel]:
    """For each attack, accuracy against radius of every model; clean accuracy at radius zero."""
    points = [r for r in records if on_curve(r) and 0 <= eps_of(r) < math.inf]
    clean = [r for r in records if r.kind is Kind.CLEAN]
    panels = []
    for own in _by(same_attack, points):
        lines = [_radius_line(name, line, clean) for name, line in _lines(own)]
        if any(len(line.x) > 1 for line in lines):
            panels.append(_panel(own, lines, records))
    return panels


def _by(key: Callable[[Record], object], records: Iterable[Record]) -> list[list[Record]]:
    groups: dict[object, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return list(groups.values())


def _panel(own: list[Record], lines: list[Series], records: list[Record]) -> Panel:
    missing = {r.role for r in records} - {r.role for r in own}
    first = own[0]
    return Panel(
        named(first.attack),
        str(first.threat.get("norm")),
        tuple(lines),
        "".join(missing),
        _asks(first),
    )


def _asks(record: Record) -> str:
    """What a query tells: gradient queries and score queries are no common currency."""
    if record.threat.get("knowledge") == "white-box":
        return "gradient queries"
    kind = next((a for a in ATTACKS.values() if a.__name__ == record.attack.get("name")), None)
    return "decision queries" if kind is not None and kind.decisions_only else "score queries"


def _line_of(record: Record) -> tuple[object, ...]:
    return (_ORDER.index(look_of(record)), record.whose, *variant_of(record))


def variant_of(record: Record) -> list[str]:
    """How the attack met the model, in words."""
    return variant(record.draws, record.through, record.position)


def _lines(own: list[Record]) -> list[tuple[str, list[Record]]]:
    """Names and records of the lines; where two have one look, what tells them apart."""
    groups = sorted(_by(_line_of, own), key=lambda line: _ORDER.index(look_of(line[0])))
    looks = [look_of(line[0]) for line in groups]
    return [
        (label_of(look) if looks.count(look) == 1 else f"{look},\n{_apart(line[0])}", line)
        for look, line in zip(looks, groups, strict=True)
    ]


def _apart(record: Record) -> str:
    name = [] if record.subject == record.role else [record.subject]
    return ", ".join([*name, *variant_of(record)]) or "as it is"


def _radius_line(name: str, own: list[Record], clean: list[Record]) -> Series:
    by_eps: dict[float, list[Record]] = {}
    for record in own:
        by_eps.setdefault(eps_of(record), []).append(record)
    unattacked = [r for r in clean if r.whose == own[0].whose]
    if unattacked:
        by_eps.setdefault(0.0, list(measure(unattacked)[0].records))
    cells = [MeasuredCell(tuple(by_eps[eps])).cell for eps in sorted(by_eps)]
    return Series(
        name=name,
        look=look_of(own[0]),
        source=", ".join(variant_of(own[0])),
        x=tuple(sorted(by_eps)),
        y=tuple(c.percent for c in cells),
        low=tuple(c.low for c in cells),
        high=tuple(c.high for c in cells),
        counts=tuple(c.counts for c in cells),
    )


def query_panels(records: list[Record]) -> list[Panel]:
    """Accuracy left once the attacker has spent so many forward passes on each image.

    The attacks that the headline names, among the rows that counted queries: a white-box row has
    none to show. Of several rows with one look the lowest is drawn.
    """
    told = [r for r in records if _tells_queries(r)]
    head = headline(told)
    chosen = [m.first for m in (head.paper, head.adaptive or head.undefended) if m]
    attacked = [r for r in told if r.kind is Kind.ATTACK and r.protocol != "sanity"]
    panels = {}
    for first in chosen:
        own = [r for r in attacked if _fight(r) == _fight(first)]
        if own:
            panels[_fight(first)] = _panel(own, _query_lines(own), records)
    return list(panels.values())


def _fight(record: Record) -> tuple[object, ...]:
    return (*same_attack(record), eps_of(record))


def _query_lines(own: list[Record]) -> list[Series]:
    lowest: dict[str, MeasuredCell] = {}
    for m in sorted(measure(own), key=lambda m: m.cell.percent):
        lowest.setdefault(look_of(m.first), m)
    return [_query_line(look, lowest[look]) for look in _ORDER if look in lowest]


def _tells_queries(record: Record) -> bool:
    """Whether the counts say when images fell; a fixed budget spent on each says nothing."""
    spent = [q for q in record.queries if q]
    return bool(record.queries) and not (len(spent) > 2 and len(set(spent)) == 1)


def budgets_of(m: MeasuredCell) -> list[int]:
    """Numbers of queries from 1 to what the attacker could or did spend, evenly on a log axis."""
    spent = max(q or 0 for record in m.records for q in record.queries)
    allowed = m.first.threat.get("queries")
    most = max(spent, allowed if isinstance(allowed, int) else 0, 2)
    grid = np.geomspace(1, most, num=49).round().astype(int).tolist()
    decades = [10**k for k in range(12) if 10**k <= most]
    return sorted({*grid, *decades})


def _query_line(look: str, m: MeasuredCell) -> Series:
    budgets = budgets_of(m)
    left = np.array([robust_after(r.queries, budgets) for r in m.records], dtype=float)
    n = len(m.first.queries)
    totals = np.array([[len(r.queries)] for r in m.records], dtype=float)
    mean = (left / totals).mean(axis=0)
    intervals = [clopper_pearson(round(share * n), n) for share in mean.tolist()]
    return Series(
        name=label_of(look),
        look=look,
        source=", ".join(variant_of(m.first)),
        x=tuple(float(b) for b in budgets),
        y=tuple(100.0 * share for share in mean.tolist()),
        low=tuple(100.0 * low for low, _ in intervals),
        high=tuple(100.0 * high for _, high in intervals),
        counts=tuple(f"{share * n:.4g}/{n}" for share in mean.tolist()),
    )


def class_shares(m: MeasuredCell) -> list[float]:
    """Accuracy of each class in percent, pooled over repeats; NaN for a class without images."""
    counted = [record.per_class for record in m.records if record.per_class]
    if not counted:
        return []
    size = max(len(counts) for counts in counted)
    right, total = np.zeros(size), np.zeros(size)
    for counts in counted:
        table = np.array(counts, dtype=float)
        right[: len(counts)] += table[:, 0]
        total[: len(counts)] += table[:, 1]
    shares = np.full(size, np.nan)
    np.divide(100.0 * right, total, out=shares, where=total > 0)
    return shares.tolist()
