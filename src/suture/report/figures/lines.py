"""Accuracy against radius, and against the attacker's queries."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suture.evaluate.records import Record
from suture.report.figures.series import Panel, Series, query_panels, radius_panels
from suture.report.figures.style import LOOKS, Drawing, draw, percent_axis, spread
from suture.report.wording import norm, percent, radius

_BAND = "Bands are 95 % intervals."
_CLIFF = 5.0
_ASKS = {
    "gradient queries": "A query here is a forward pass, mostly with its gradient, which tells far "
    "more than scores do: do not read it against a figure of score queries.",
    "score queries": "A query here is a forward pass that tells the scores alone: do not read it "
    "against a figure of gradient queries.",
    "decision queries": "A query here is a forward pass that tells the class alone: do not read it "
    "against a figure of score or gradient queries.",
}


def radius_figures(records: list[Record]) -> list[Drawing]:
    """One figure an attack: how accuracy falls as it may change more."""
    panels = radius_panels(records)
    return [_radius(key, panel) for key, panel in zip(_keys("radius", panels), panels, strict=True)]


def query_figures(records: list[Record]) -> list[Drawing]:
    """One figure an attack: how accuracy falls as it spends queries."""
    panels = query_panels(records)
    keys = _keys("queries", panels)
    return [_queries(key, panel) for key, panel in zip(keys, panels, strict=True)]


def _keys(start: str, panels: list[Panel]) -> list[str]:
    """Short names, each once: ``radius-linf-square``."""
    words = [f"{panel.norm} {panel.attack}".lower() for panel in panels]
    slugs = [re.sub(r"[^a-z0-9]+", "-", text).strip("-") for text in words]
    seen = [slugs[:i].count(slug) for i, slug in enumerate(slugs)]
    return [
        f"{start}-{slug}{f'-{again + 1}' if again else ''}"
        for slug, again in zip(slugs, seen, strict=True)
    ]


def _radius(key: str, panel: Panel) -> Drawing:
    series, symbol = panel.lines, norm(panel.norm)

    def paint(figure: Figure) -> None:
        axes = _axes(figure, "robust accuracy, %", f"radius ε ({symbol})")
        for line in series:
            _line(axes, line, marked=True)
        axes.set_xlim(left=0)
        _direct_labels(axes, series)

    return Drawing(
        key=key,
        title=f"Accuracy against radius: {panel.attack} ({symbol})",
        caption=f"{_radius_caption(series)} {_BAND} {_sources(panel)}".rstrip(),
        alt=_in_words(f"Accuracy against {symbol} radius under {panel.attack}", series, radius),
        svg=draw(key, paint, height=3.1),
        header=("Series", "ε", "Accuracy", "95 % interval", "Right"),
        rows=_numbers(series, radius),
    )


def _radius_caption(series: Sequence[Series]) -> str:
    start = "Read off how much change a correct answer survives"
    if not {"paper", "adaptive"} <= {line.look for line in series}:
        return f"{start}."
    return (
        f"{start}, and how far the adaptive line lies under the paper's: that distance is "
        "the attacker's confusion, not robustness."
    )


def _queries(key: str, panel: Panel) -> Drawing:
    series = panel.lines

    def paint(figure: Figure) -> None:
        axes = _axes(figure, "robust accuracy, %", f"{panel.asks} per image (log)")
        axes.set_xscale("log")
        for line in series:
            _line(axes, line, marked=False)
        _decade_ticks(axes, max(line.x[-1] for line in series))
        _direct_labels(axes, series)

    what = f"Accuracy against {panel.asks} per image"
    return Drawing(
        key=key,
        title=f"Accuracy against {panel.asks}: {panel.attack} ({norm(panel.norm)})",
        caption="Read off whether the lines have levelled off: one that still falls at the right "
        f"edge would fall further with a larger budget. {_ASKS[panel.asks]}{_at_the_end(series)} "
        f"{_BAND} {_sources(panel)}".rstrip(),
        alt=_in_words(f"{what} under {panel.attack}", series, _whole),
        svg=draw(key, paint, height=3.1),
        header=("Series", "Queries", "Accuracy", "95 % interval", "Right"),
        rows=_numbers([_decades(line) for line in series], _whole),
    )


def _at_the_end(series: Sequence[Series]) -> str:
    """What a cliff at the last query means."""
    if not any(line.y[-2] - line.y[-1] > _CLIFF for line in series if len(line.y) > 1):
        return ""
    return " A drop at the right edge is images that were judged when the whole search had ended."


def _axes(figure: Figure, y_label: str, x_label: str) -> Axes:
    axes = figure.add_axes((0.125, 0.16, 0.635, 0.8))
    percent_axis(axes, y_label)
    axes.set_xlabel(x_label)
    return axes


def _line(axes: Axes, line: Series, *, marked: bool) -> None:
    look = LOOKS[line.look]
    style = "default" if marked else "steps-post"
    axes.fill_between(
        line.x,
        line.low,
        line.high,
        color=look.color,
        alpha=0.14,
        linewidth=0,
        step=None if marked else "post",
    )
    axes.plot(
        line.x,
        line.y,
        color=look.color,
        linestyle=look.line,
        linewidth=2,
        drawstyle=style,
        marker=look.marker if marked else None,
        markersize=5,
        clip_on=False,
    )


def _decade_ticks(axes: Axes, most: float) -> None:
    """Plain 1, 10, 100, …: few readers like powers of ten."""
    ticks = [power for power in sorted(_POWERS) if power <= most]
    axes.set_xlim(1, most * 1.05)
    axes.set_xticks(ticks, [_whole(tick) for tick in ticks])
    axes.minorticks_off()


def _direct_labels(axes: Axes, series: Sequence[Series]) -> None:
    """Write each name beside the end of its line, so that no legend must be decoded."""
    heights = spread([line.y[-1] for line in series], gap=15.0, top=97.0)
    right = axes.get_xlim()[1]
    for line, height in zip(series, heights, strict=True):
        _leader(axes, line, right, height)
        axes.annotate(
            line.name,
            xy=(right, height),
            xytext=(8, 0),
            textcoords="offset points",
            color=LOOKS[line.look].color,
            fontsize=9,
            fontweight="bold",
            va="center",
            annotation_clip=False,
        )


def _leader(axes: Axes, line: Series, right: float, height: float) -> None:
    """A thin dotted line from where the numbers end to where their name stands."""
    axes.plot(
        (line.x[-1], right),
        (line.y[-1], height),
        color=LOOKS[line.look].color,
        linestyle=":",
        linewidth=1,
        clip_on=False,
    )


def _sources(panel: Panel) -> str:
    """How the attack met each model, and which model it has not met."""
    told = [f"{_one_line(line.name)}: {line.source}" for line in panel.lines if line.source]
    alone = f"The {panel.missing} classifier was not measured under this attack."
    return " ".join([*([f"{'; '.join(told)}."] if told else []), *([alone] * bool(panel.missing))])


def _one_line(name: str) -> str:
    return name.replace("\n", " ")


def _in_words(what: str, series: Sequence[Series], at: Callable[[float], str]) -> str:
    ends = [
        f"{_one_line(line.name)} goes from {percent(line.y[0])} at {at(line.x[0])} "
        f"to {percent(line.y[-1])} at {at(line.x[-1])}"
        for line in series
    ]
    return f"{what}: {'; '.join(ends)}."


def _numbers(series: Sequence[Series], at: Callable[[float], str]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (_one_line(line.name), at(x), percent(y, 1), f"{low:.1f}–{high:.1f}", counts)
        for line in series
        for x, y, low, high, counts in zip(
            line.x, line.y, line.low, line.high, line.counts, strict=True
        )
    )


def _whole(value: float) -> str:
    return f"{round(value):,}".replace(",", "\u202f")


def _decades(line: Series) -> Series:
    """The few budgets worth a row of the table: 1, 10, 100, … and the last."""
    keep = [i for i, x in enumerate(line.x) if i == len(line.x) - 1 or x in _POWERS]

    def pick(values: tuple) -> tuple:
        return tuple(values[i] for i in keep)

    parts = (line.x, line.y, line.low, line.high, line.counts)
    return Series(line.name, line.look, line.source, *(pick(part) for part in parts))


_POWERS = frozenset(float(10**k) for k in range(12))
