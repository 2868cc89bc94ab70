"""Records → the lines of a figure: numbers only, no drawing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from suture.evaluate.metrics import clopper_pearson, robust_after
from suture.evaluate.records import Record, Role
from suture.report.cells import Measured, eps_of, measure, on_curve
from suture.report.headline import headline
from suture.report.wording import attack_name


@dataclass(frozen=True)
class Series:
    """One line: accuracy ``y`` at each ``x`` in percent, between ``low`` and ``high``.

    ``source`` is the row of the table that it belongs to, or the attack of a line across rows.
    """

    name: str
    look: str
    source: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    counts: tuple[str, ...]


def look_of(record: Record) -> str:
    """Which of the looks a record has: undefended, paper or adaptive."""
    if record.role is Role.UNDEFENDED:
        return "undefended"
    return "adaptive" if record.protocol == "adaptive" else "paper"


def label_of(look: str) -> str:
    """A series in words; short, since it stands beside its line."""
    return {"paper": "defended,\nas in paper", "adaptive": "defended,\nadaptive"}.get(look, look)


def radius_series(records: list[Record]) -> dict[str, list[Series]]:
    """For each norm, accuracy against radius of every subject, protocol and attack.

    Clean accuracy is the point at radius zero.
    """
    points = [r for r in records if on_curve(r) and 0 <= eps_of(r) < math.inf]
    lines: dict[str, dict[tuple[str, str], list[Record]]] = {}
    for record in points:
        key = (look_of(record), attack_name(record))
        lines.setdefault(str(record.threat.get("norm")), {}).setdefault(key, []).append(record)
    found = {norm: _radius_lines(group, records) for norm, group in lines.items()}
    return {norm: series for norm, series in found.items() if any(len(s.x) > 1 for s in series)}


def _radius_lines(
    group: dict[tuple[str, str], list[Record]], records: list[Record]
) -> list[Series]:
    looks = [look for look, _ in group]
    series = []
    for look, attack in sorted(group, key=lambda key: list(_ORDER).index(key[0])):
        name = label_of(look)
        if looks.count(look) > 1:
            name = f"{look},\n{attack}"
        series.append(_radius_line(name, look, attack, group[look, attack], records))
    return series


_ORDER = ("undefended", "paper", "adaptive")


def _radius_line(
    name: str, look: str, attack: str, own: list[Record], records: list[Record]
) -> Series:
    by_eps: dict[float, list[Record]] = {}
    for record in own:
        by_eps.setdefault(eps_of(record), []).append(record)
    whose = own[0].whose
    clean = [r for r in records if r.metric == "clean accuracy" and r.whose == whose]
    if clean and not any(on_curve(r) for r in clean):
        by_eps.setdefault(0.0, list(measure(clean)[0].records))
    cells = [Measured(tuple(by_eps[eps])).cell for eps in sorted(by_eps)]
    return Series(
        name=name,
        look=look,
        source=attack,
        x=tuple(sorted(by_eps)),
        y=tuple(c.percent for c in cells),
        low=tuple(c.low for c in cells),
        high=tuple(c.high for c in cells),
        counts=tuple(c.counts for c in cells),
    )


def query_series(records: list[Record]) -> list[Series]:
    """Accuracy left once the attacker has spent so many forward passes on each image.

    The lowest rows among those that counted queries: a white-box row has none to show.
    """
    head = headline([r for r in records if _tells_queries(r)])
    chosen = {"undefended": head.undefended, "paper": head.paper, "adaptive": head.adaptive}
    return [_query_line(look, m) for look, m in chosen.items() if m]


def _tells_queries(record: Record) -> bool:
    """Whether the counts say when images fell; a fixed budget spent on each says nothing."""
    spent = [q for q in record.queries if q]
    return bool(record.queries) and not (len(spent) > 2 and len(set(spent)) == 1)


def budgets_of(m: Measured) -> list[int]:
    """Numbers of queries from 1 to what the attacker could or did spend, evenly on a log axis."""
    spent = max(q or 0 for record in m.records for q in record.queries)
    allowed = m.first.threat.get("queries")
    most = max(spent, allowed if isinstance(allowed, int) else 0, 2)
    grid = np.geomspace(1, most, num=49).round().astype(int).tolist()
    decades = [10**k for k in range(12) if 10**k <= most]
    return sorted({*grid, *decades})


def _query_line(look: str, m: Measured) -> Series:
    budgets = budgets_of(m)
    left = np.array([robust_after(r.queries, budgets) for r in m.records], dtype=float)
    n = len(m.first.queries)
    totals = np.array([[len(r.queries)] for r in m.records], dtype=float)
    mean = (left / totals).mean(axis=0)
    intervals = [clopper_pearson(round(share * n), n) for share in mean.tolist()]
    return Series(
        name=label_of(look),
        look=look,
        source=m.first.row,
        x=tuple(float(b) for b in budgets),
        y=tuple(100.0 * share for share in mean.tolist()),
        low=tuple(100.0 * low for low, _ in intervals),
        high=tuple(100.0 * high for _, high in intervals),
        counts=tuple(f"{share * n:.4g}/{n}" for share in mean.tolist()),
    )


def class_shares(m: Measured) -> list[float]:
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
