"""What a repair costs and gives: clean against robust accuracy, of epochs or of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from suture.report.figures.style import LOOKS, Drawing, draw
from suture.report.table import Column, Table, number, share

Rows = Sequence[dict[str, Any]]


def candidate_table(rows: Rows) -> Table:
    """What ``--method auto`` tried; rows as in its trace."""
    columns = (
        Column(lambda row: f"{row['name']}{' ★' if row.get('chosen') else ''}", "method"),
        share("clean", "clean", "n"),
        share("robust", "under attack", "n"),
        share("certified", "certified", "n"),
        Column("seconds", "seconds", number(".0f")),
        Column("forward", "forward, × given", number(".2g")),
        Column("failed", "failed"),
    )
    shown = columns if any("failed" in row for row in rows) else columns[:-1]
    return Table(shown, rows, "What was tried, on held-out training images")


def candidate_figure(rows: Rows) -> Drawing | None:
    """Clean against robust accuracy of every candidate."""
    known = [row for row in rows if row.get("robust") is not None]
    if len(known) < 2:
        return None
    points = [
        (row["name"], 100 * row["clean"] / row["n"], 100 * row["robust"] / row["n"])
        for row in known
    ]
    table = candidate_table(rows)
    return _drawn(
        "candidates",
        "What was tried",
        "Held-out training images; ★ is what was given back. They chose, and are no claim: the "
        "given model may have been trained on them.",
        points,
        (table.header, table.cells),
    )


def epoch_figure(curve: Rows, before: dict[str, Any]) -> Drawing | None:
    """The judged epochs of an adversarial training, the given model first."""
    judged = [row for row in curve if row.get("robust") is not None]
    if not judged:
        return None
    points = [("as given", 100 * before["clean"], 100 * before["robust"])]
    points += [(f"{row['epoch']}", 100 * row["clean"], 100 * row["robust"]) for row in judged]
    lines = tuple((name, f"{clean:.2f} %", f"{robust:.2f} %") for name, clean, robust in points)
    return _drawn(
        "epochs",
        "The trade-off, epoch by epoch",
        "Held-out training images, clean and under APGD. The best epoch within the limit of lost "
        "clean accuracy is given back.",
        points,
        (("Epoch", "Clean", "Under APGD"), lines),
    )


def _drawn(
    key: str,
    title: str,
    caption: str,
    points: list[tuple[str, float, float]],
    numbers: tuple[tuple[str, ...], tuple[tuple[str, ...], ...]],
) -> Drawing:
    told = "; ".join(f"{name}: clean {x:.1f} %, robust {y:.1f} %" for name, x, y in points)
    svg = draw(key, lambda figure: _paint(figure, points), height=3.0)
    return Drawing(key, title, caption, told, svg, *numbers)


def _paint(figure: Figure, points: list[tuple[str, float, float]]) -> None:
    axes = figure.add_axes((0.125, 0.16, 0.84, 0.8))
    looks = [LOOKS["undefended"], *[LOOKS["adaptive"]] * (len(points) - 1)]
    for (name, x, y), look in zip(points, looks, strict=True):
        axes.plot([x], [y], color=look.color, marker=look.marker, markersize=6, linestyle="none")
        axes.annotate(
            name, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8.5, color=look.color
        )
    low, high = min(x for _, x, _ in points), max(x for _, x, _ in points)
    room = max(1.0, 0.25 * (high - low))
    axes.set_xlim(low - room / 2, high + room)
    axes.set_ylim(-2, 105)
    axes.set_xlabel("clean accuracy, %")
    axes.set_ylabel("under attack, %")
