"""A picture of a training history: how good each epoch is, and what the last one forgot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from suture.report.figures.style import LOOKS, Drawing, draw
from suture.report.table import Column, Table, number, share

Rows = Sequence[dict[str, Any]]


def history_table(rows: Rows) -> Table:
    """A row an epoch: its right images, those that the last one gets wrong, those it teaches."""
    columns = (
        Column("epoch", "epoch", number("d")),
        share("right", "right", "n"),
        Column("mends", "right where the last is wrong", number("d")),
        Column("tutors", "most confident of all", number("d")),
    )
    return Table(columns, list(rows), "What the epochs know")


def history_drawing(title: str, rows: Rows) -> Drawing:
    """Accuracy by epoch above, and below how many images an epoch mends and teaches."""
    epochs = [row["epoch"] for row in rows]

    def paint(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True)
        figure.subplots_adjust(left=0.14, right=0.97, bottom=0.14, top=0.96, hspace=0.14)
        accuracy = [100 * row["right"] / row["n"] for row in rows]
        above.plot(epochs, accuracy, color=LOOKS["undefended"].color, marker=".")
        above.set_ylabel("right, %")
        for key, look, name in (("mends", "paper", "mends"), ("tutors", "adaptive", "teaches")):
            values = [row[key] for row in rows]
            below.plot(epochs, values, color=LOOKS[look].color, marker=".", label=name)
        below.set_ylabel("images")
        below.set_ylim(bottom=0)
        below.set_xlabel("epoch")
        below.legend(frameon=False)

    table = history_table(rows)
    best = max(rows, key=lambda row: row["right"])
    return Drawing(
        key="history",
        title=title,
        caption="Above: images that each epoch gets right. Below: of them, those that the last "
        "epoch gets wrong (mends), and those on which it is right with the most confidence of all "
        "(teaches).",
        alt=f"Epoch {best['epoch']} is right most often, on {best['right']} of {best['n']} images.",
        svg=draw("history", paint, height=3.4, width=5.6),
        header=table.header,
        rows=table.cells,
    )
