"""Accuracies against one hyper-parameter: a line each, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from suture.evaluate.metrics import clopper_pearson
from suture.report.figures.style import LOOKS, Drawing, Look, draw, percent_axis

_LOOKS: Mapping[str, Look] = {
    "clean": LOOKS["undefended"],
    "paper": LOOKS["paper"],
    "adaptive": LOOKS["adaptive"],
    "triggered": LOOKS["paper"],
}


@dataclass(frozen=True)
class SweepPoint:
    """``right`` out of ``n`` images at ``x``; expected over draws it need not be whole."""

    x: float
    right: float
    n: int

    @property
    def percent(self) -> float:
        """The share in percent."""
        return 100.0 * self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Clopper-Pearson interval in percent."""
        low, high = clopper_pearson(self.right, self.n)
        return 100.0 * low, 100.0 * high


def sweep_figure(
    key: str, title: str, axis: str, series: Mapping[str, Sequence[SweepPoint]], caption: str
) -> Drawing:
    """Lines over a hyper-parameter.

    Args:
        key, title, caption: as a ``Drawing`` has them.
        axis: what the horizontal axis is.
        series: name of the line ("clean", "paper", "adaptive", "triggered", or any other) to its
            points in order.
    """

    def paint(figure: Figure) -> None:
        axes = figure.add_axes((0.125, 0.19, 0.85, 0.66))
        for name, points in series.items():
            look = _LOOKS.get(name, LOOKS["other"])
            x = [p.x for p in points]
            low, high = zip(*(p.interval for p in points), strict=True)
            axes.fill_between(x, low, high, color=look.color, alpha=0.15, linewidth=0)
            axes.plot(
                x,
                [p.percent for p in points],
                color=look.color,
                marker=look.marker,
                linestyle=look.line,
                markersize=4,
                linewidth=1.8,
                label=name,
            )
        percent_axis(axes, "accuracy, %")
        axes.set_xlabel(axis)
        axes.legend(frameon=False, ncols=len(series), loc="lower left", bbox_to_anchor=(0.0, 1.0))

    numbers = [(name, point) for name, points in series.items() for point in points]
    return Drawing(
        key=key,
        title=title,
        caption=f"{caption} Bands are 95 % intervals.",
        alt="; ".join(f"{name}: {_words(points)}" for name, points in series.items()),
        svg=draw(key, paint, height=2.9),
        header=("Line", axis, "Accuracy", "Right"),
        rows=tuple(
            (name, f"{p.x:g}", f"{p.percent:.1f} %", f"{round(p.right, 1):g}/{p.n}")
            for name, p in numbers
        ),
    )


def _words(points: Sequence[SweepPoint]) -> str:
    return ", ".join(f"{p.percent:.0f} % at {p.x:g}" for p in points)
