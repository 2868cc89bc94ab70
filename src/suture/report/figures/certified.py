"""Certified accuracy against the radius, a line for every method and the attack."""

from __future__ import annotations

from typing import Any

from suture.report.figures.style import Drawing, draw, percent_axis
from suture.report.table import Row, interval


def certified_figure(rows: list[Row]) -> Drawing:
    """Lines of the rows of ``suture.evaluate.provable`` at several radii."""
    # A line for each of many programs would hide the others.
    kinds = list(dict.fromkeys(row["what"] for row in rows if "odds" not in row))

    def paint(figure: Any) -> None:
        axes = figure.add_axes((0.14, 0.17, 0.82, 0.78))
        for kind, marker in zip(kinds, "osv^D*", strict=False):
            own = [row for row in rows if row["what"] == kind]
            shares = [100 * row["right"] / row["n"] for row in own]
            axes.plot([row["eps"] for row in own], shares, marker=marker, label=kind)
        percent_axis(axes, "images (%)")
        axes.set_xlabel("radius (L∞)")
        axes.legend(frameon=False)

    return Drawing(
        "certified",
        "Certified accuracy against radius",
        "Between a certified line and the line of the attack nothing is known.",
        "Lines of clean, attacked and certified accuracy over the radius.",
        draw("certified", paint, height=3.2),
        ("radius", "what", "right", "n"),
        tuple((f"{r['eps']:g}", r["what"], str(r["right"]), str(r["n"])) for r in rows),
    )


def voted_figure(rows: list[Row], unit: str) -> Drawing:
    """One line with its 95 % band: rows with ``radius``, ``right`` and ``n``.

    Args:
        unit: of the radius, in words.
    """
    points = [(row["radius"], 100 * row["right"] / row["n"]) for row in rows]
    bands = [interval(row["right"], row["n"]) for row in rows]

    def paint(figure: Any) -> None:
        axes = figure.add_axes((0.14, 0.17, 0.82, 0.78))
        radii, shares = zip(*points, strict=True)
        low, high = zip(*bands, strict=True)
        axes.plot(radii, shares, marker="o", label="certified")
        axes.fill_between(radii, low, high, alpha=0.2, linewidth=0)
        percent_axis(axes, "images (%)")
        axes.set_xlabel(f"radius ({unit})")

    return Drawing(
        "voted",
        "Certified accuracy against radius",
        "Images whose true class is certified at least that far, with a 95 % band.",
        "A falling line of certified accuracy over the radius.",
        draw("voted", paint, height=3.2),
        ("radius", "right", "n"),
        tuple((f"{r['radius']:g}", str(r["right"]), str(r["n"])) for r in rows),
    )
