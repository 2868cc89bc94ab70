"""Repair programs as the page shows them: text, scores, and a small picture of what flows where."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from suture.report.wording import MISSING

DRAWN = 12
_FEATURE = re.compile(r"\bv_?(\d+)\b")
_STEP, _WIDTH, _NODE = 18, 150, 44
_ROWS = 10  # a taller picture says less than the text beside it


@dataclass(frozen=True)
class ProgramRow:
    """One program of the table, numbered from 0 as in the records' ``program`` tags.

    ``picture`` is inline SVG, empty where none is drawn; ``weight`` the probability of being drawn,
    empty where all are equally likely.
    """

    number: int
    text: str
    score: str
    adversarial: str
    clean: str
    picture: Markup
    weight: str = ""


@dataclass(frozen=True)
class ProgramTable:
    """All programs of a run and what they have in common."""

    kind: str
    facts: tuple[tuple[str, str], ...]
    shown: tuple[ProgramRow, ...]
    folded: tuple[ProgramRow, ...]
    most_written: str


def program_table(programs: dict[str, Any] | None) -> ProgramTable | None:
    """The programs of ``artifacts/programs.json``; ``None`` without any."""
    if not programs or not programs["programs"]:
        return None
    entries = programs["programs"]
    samples = programs.get("samples")
    counts = (programs.get("adversarial", samples), samples)
    rows = [_row(i, entry, counts, drawn=i < DRAWN) for i, entry in enumerate(entries)]
    facts = [
        ("Features", programs.get("features")),
        ("Images that scored them", samples),
        ("λ, weight of clean images", programs.get("lambda")),
    ]
    return ProgramTable(
        kind=str(programs.get("kind", "repair")),
        facts=tuple((name, str(value)) for name, value in facts if value is not None),
        shown=tuple(rows[:DRAWN]),
        folded=tuple(rows[DRAWN:]),
        most_written=_most_written(entries),
    )


def _row(
    index: int, entry: dict[str, Any], counts: tuple[object, object], *, drawn: bool
) -> ProgramRow:
    """``counts``: attacked and clean images behind the scores."""
    text = str(entry.get("text", MISSING))
    return ProgramRow(
        number=index,
        text=text,
        score=_number(entry.get("score")),
        adversarial=_of(entry.get("adversarial_right"), counts[0]),
        clean=_of(entry.get("clean_right"), counts[1]),
        picture=picture(flows(text)) if drawn else Markup(""),
        weight=f"{100 * entry['weight']:.1f} %" if "weight" in entry else "",
    )


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else MISSING


def _of(right: object, samples: object) -> str:
    share = f"/{samples}" if isinstance(samples, int) else ""
    return MISSING if right is None else f"{_number(right)}{share}"


def flows(text: str) -> list[tuple[str, str]]:
    """``(read, written)`` for every operand of every instruction, without repeats.

    An instruction that reads no feature flows from ``const``.

    >>> flows("v3 = v100 + 3.267; v136 = v2 / v51")
    [('v100', 'v3'), ('v2', 'v136'), ('v51', 'v136')]
    """
    found: dict[tuple[str, str], None] = {}
    for instruction in text.split(";"):
        left, equals, right = instruction.partition("=")
        target = _FEATURE.search(left)
        if not equals or target is None:
            continue
        reads = _FEATURE.findall(right)
        for source in [f"v{number}" for number in reads] or ["const"]:
            found[source, f"v{target[1]}"] = None
    return list(found)


def picture(edges: list[tuple[str, str]]) -> Markup:
    """Features read on the left, features written on the right, an edge for every operand."""
    reads = list(dict.fromkeys(source for source, _ in edges))
    writes = list(dict.fromkeys(target for _, target in edges))
    rows = max(len(reads), len(writes))
    if not 0 < rows <= _ROWS:
        return Markup("")
    at_left = _places(reads, rows)
    at_right = _places(writes, rows)
    marks = [_edge(at_left[source], at_right[target]) for source, target in edges]
    marks += [_node(name, 0, y, "read") for name, y in at_left.items()]
    marks += [_node(name, _WIDTH - _NODE, y, "write") for name, y in at_right.items()]
    return Markup(
        '<svg class="flow" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
        'aria-label="{label}">{marks}</svg>'
    ).format(
        w=_WIDTH,
        h=rows * _STEP,
        label="; ".join(f"{target} from {_joined(edges, target)}" for target in writes),
        marks=Markup("").join(marks),
    )


def _joined(edges: Iterable[tuple[str, str]], target: str) -> str:
    return " and ".join(source for source, own in edges if own == target)


def _places(names: list[str], rows: int) -> dict[str, float]:
    gap = rows * _STEP / len(names)
    return {name: gap * (i + 0.5) for i, name in enumerate(names)}


def _edge(start: float, end: float) -> Markup:
    left, right = _NODE, _WIDTH - _NODE
    middle = (left + right) / 2
    path = f"M{left} {start:g}C{middle:g} {start:g} {middle:g} {end:g} {right - 5} {end:g}"
    tip = f"M{right - 6} {end - 3:g}L{right} {end:g}L{right - 6} {end + 3:g}Z"
    return Markup('<path class="edge" d="{}"/><path class="tip" d="{}"/>').format(path, tip)


def _node(name: str, x: float, y: float, role: str) -> Markup:
    return Markup(
        '<rect class="{role}" x="{x:g}.5" y="{top:g}" width="{w}" height="14" rx="3"/>'
        '<text x="{middle:g}" y="{base:g}">{name}</text>'
    ).format(
        role=role, x=x, top=y - 7, w=_NODE - 1, middle=x + _NODE / 2, base=y + 3.8, name=name[:7]
    )


def _most_written(entries: list[dict[str, Any]]) -> str:
    """``v3 (12), v8 (4)``: how many programs write each of the most written features."""
    counts: Counter[str] = Counter()
    for entry in entries:
        counts.update(dict.fromkeys((t for _, t in flows(str(entry.get("text", "")))), 1))
    common = [(name, count) for name, count in counts.most_common(5) if count > 1]
    return ", ".join(f"{name} ({count})" for name, count in common)
