"""Accuracy of each class: whom the repair helps, and whom it leaves behind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from matplotlib.figure import Figure

from suture.evaluate.records import Record
from suture.report.figures.series import class_shares
from suture.report.figures.style import FAINT, LOOKS, Drawing, draw
from suture.report.headline import Headline, headline
from suture.report.wording import MISSING, percent

MOST = 20
Columns = dict[str, list[float]]


def class_figure(records: list[Record], names: Sequence[str] = ()) -> Drawing | None:
    """Accuracy by class before and after; ``None`` unless two measurements count by class."""
    head = headline([r for r in records if r.per_class])
    columns = _columns(head)
    if len(columns) < 2:
        return None
    classes = _shown(columns)
    if not classes:
        return None
    labels = [names[i] if i < len(names) else str(i) for i in range(_size(columns))]
    total = sum(1 for i in range(_size(columns)) if _known(columns, i))
    return Drawing(
        key="classes",
        title="Accuracy of each class",
        caption=_caption(columns, len(classes), total) + _adaptive_row(head),
        alt=_alt(columns, labels),
        svg=draw("classes", lambda f: _paint(f, columns, classes, labels), height=_height(classes)),
        header=("Class", *columns),
        rows=tuple(
            (labels[i], *(_share(column, i) for column in columns.values()))
            for i in range(_size(columns))
        ),
    )


def _columns(head: Headline) -> Columns:
    if head.paper or head.adaptive:
        own = head.undefended_adaptive
        chosen = {
            "undefended": head.undefended,
            "defended, as in paper": head.paper,
            "undefended, adaptive": None if own == head.undefended else own,
            "defended, adaptive": head.adaptive,
        }
    else:
        chosen = {"no attack": head.clean_before, "under attack": head.undefended}
    shares = {name: class_shares(m) for name, m in chosen.items() if m}
    return {name: column for name, column in shares.items() if column}


_LOOKS = {
    "undefended": LOOKS["undefended"],
    "undefended, adaptive": replace(LOOKS["undefended"], marker="^"),
    "defended, as in paper": LOOKS["paper"],
    "defended, adaptive": LOOKS["adaptive"],
    "no attack": LOOKS["other"],
    "under attack": LOOKS["undefended"],
}


def _size(columns: Columns) -> int:
    return max(len(column) for column in columns.values())


def _value(column: list[float], index: int) -> float:
    return column[index] if index < len(column) else math.nan


def _known(columns: Columns, index: int) -> bool:
    return any(not math.isnan(_value(column, index)) for column in columns.values())


def _shown(columns: Columns) -> list[int]:
    """All classes when few; otherwise those that end lowest, since they decide."""
    known = [i for i in range(_size(columns)) if _known(columns, i)]
    if len(known) <= MOST:
        return known
    last = list(columns.values())[-1]
    lowest = sorted(known, key=lambda i: (math.isnan(_value(last, i)), _value(last, i), i))
    return sorted(lowest[:MOST])


def _height(classes: list[int]) -> float:
    return 1.15 + 0.25 * len(classes)


def _paint(figure: Figure, columns: Columns, classes: list[int], labels: list[str]) -> None:
    height = figure.get_size_inches()[1]
    short = [_shortened(labels[i]) for i in classes]
    longest = max(len(label) for label in short)
    left = min(0.08 + 0.016 * longest, 0.32)
    axes = figure.add_axes((left, 0.5 / height, 0.96 - left, 1 - 1.1 / height))
    for at, index in enumerate(classes):
        values = [_value(c, index) for c in columns.values() if not math.isnan(_value(c, index))]
        axes.plot([min(values), max(values)], [at, at], color=FAINT, linewidth=3, zorder=1)
    for name, column in columns.items():
        look = _LOOKS[name]
        values = [_value(column, index) for index in classes]
        axes.scatter(
            values,
            range(len(classes)),
            color=look.color,
            marker=look.marker,
            s=34,
            label=name,
            zorder=2,
            clip_on=False,
        )
    axes.set_yticks(range(len(classes)), short)
    axes.set_ylim(len(classes) - 0.4, -0.6)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("accuracy, %")
    axes.grid(axis="y", visible=False)
    figure.legend(
        loc="upper center",
        ncols=len(columns) if len(columns) < 4 else 2,
        frameon=False,
        fontsize=8.5,
        handletextpad=0.2,
        columnspacing=1.0,
        borderaxespad=0.1,
    )


def _shortened(label: str) -> str:
    return label if len(label) <= 14 else f"{label[:13].rstrip()}…"


def _caption(columns: Columns, shown: int, total: int) -> str:
    start = "Read off which classes the average hides: the longer the bar, the further apart."
    if shown < total:
        start += f" Shown are the {shown} of {total} classes that end lowest."
    if "defended, adaptive" in columns:
        start += " Few images a class, so wide intervals: single classes are hints."
    return start


def _adaptive_row(head: Headline) -> str:
    if head.adaptive is None:
        return ""
    paper = f" As in paper: {head.paper.first.row}." if head.paper else ""
    return f"{paper} Adaptive: {head.adaptive.first.row}."


def _alt(columns: Columns, labels: list[str]) -> str:
    parts = []
    for name, column in columns.items():
        known = [i for i in range(len(column)) if not math.isnan(column[i])]
        if known:
            low = min(known, key=lambda i: column[i])
            high = max(known, key=lambda i: column[i])
            parts.append(
                f"{name} from {percent(column[low])} (class {labels[low]}) "
                f"to {percent(column[high])} (class {labels[high]})"
            )
    return f"Accuracy by class: {'; '.join(parts)}."


def _share(column: list[float], index: int) -> str:
    value = _value(column, index)
    return MISSING if math.isnan(value) else percent(value, 1)
