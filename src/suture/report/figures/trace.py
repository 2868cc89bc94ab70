"""How a synthesis went: best score and what is left of the search's breadth, length by length.

Of a game against an attacker who knows the programs: its two values, round by round.
"""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suture.report.figures.style import INK, LOOKS, Drawing, draw, percent_axis
from suture.report.wording import MISSING

_COLUMNS = {
    "length": "Length",
    "programs": "Programs tried",
    "discarded": "Discarded",
    "best": "Best score",
    "top_k_sum": "Sum of the kept",
    "entropy_left": "Entropy, written",
    "entropy_right": "Entropy, read",
    "seconds": "Seconds",
}
_GAME = {
    "round": "Round",
    "value": "Value, known images",
    "attacked": "Under a fresh attack",
    "clean": "Clean",
    "support": "Programs in the mixture",
    "programs": "Programs found",
    "variants": "Images found",
}
_VALUES = {
    "value": ("programs found, images found", "paper"),
    "attacked": ("fresh attack", "adaptive"),
}
_SIDES = {"entropy_left": ("written", "paper"), "entropy_right": ("read", "adaptive")}


def trace_figure(trace: list[dict[str, Any]] | None) -> Drawing | None:
    """Best score and effective number of features for each program length."""
    steps = [s for s in trace or [] if _number(s, "length") is not None]
    if not any(_number(s, "best") is not None for s in steps):
        return None
    return Drawing(
        key="trace",
        title="The synthesis, length by length",
        caption="Left: longer programs must score higher to be worth their length. Right: how many "
        "features the search still chooses among (the exponential of the entropy); near 1 it has "
        "collapsed onto a single feature.",
        alt=_alt(steps),
        svg=draw("trace", lambda figure: _paint(figure, steps), height=2.5),
        header=tuple(_COLUMNS.values()),
        rows=tuple(tuple(_cell(step.get(key)) for key in _COLUMNS) for step in steps),
    )


def _number(step: dict[str, Any], key: str) -> float | None:
    value = step.get(key)
    usable = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if usable else None  # type: ignore[arg-type]


def _points(
    steps: list[dict[str, Any]], key: str, along: str = "length"
) -> tuple[list[float], list[float]]:
    pairs = [(_number(s, along), _number(s, key)) for s in steps]
    known = [(x, y) for x, y in pairs if x is not None and y is not None]
    return [x for x, _ in known], [y for _, y in known]


def _paint(figure: Figure, steps: list[dict[str, Any]]) -> None:
    score, breadth = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.125, right=0.97, bottom=0.19, top=0.88, wspace=0.28)
    score.plot(*_points(steps, "best"), color=INK, marker="o", markersize=4, linewidth=1.8)
    score.set_title("best score", loc="left", fontsize=10)
    _breadth(breadth, steps)
    for axes in (score, breadth):
        axes.set_xlabel("program length")
        axes.xaxis.get_major_locator().set_params(integer=True)


def _breadth(axes: Axes, steps: list[dict[str, Any]]) -> None:
    axes.set_title("features in play", loc="left", fontsize=10)
    for key, (side, name) in _SIDES.items():
        x, entropy = _points(steps, key)
        if x:
            y = [math.exp(min(value, 50.0)) for value in entropy]
            look = LOOKS[name]
            axes.plot(
                x, y, color=look.color, marker=look.marker, markersize=4, linewidth=1.8, label=side
            )
    axes.set_ylim(bottom=0)
    if axes.lines:
        axes.legend(frameon=False, fontsize=8.5, loc="best")


def _alt(steps: list[dict[str, Any]]) -> str:
    x, best = _points(steps, "best")
    return (
        f"Best score {best[0]:g} at length {x[0]:g}, {max(best):g} at its highest, "
        f"{best[-1]:g} at length {x[-1]:g}."
    )


def _cell(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}".replace(",", "\u202f") if isinstance(value, int) else f"{value:.4g}"
    return MISSING if value is None else str(value)


def game_figure(rounds: list[dict[str, Any]] | None) -> Drawing | None:
    """The game's two values and the size of the mixture, for each round."""
    steps = [s for s in rounds or [] if _number(s, "attacked") is not None]
    if not steps:
        return None
    return Drawing(
        key="game",
        title="The game of programs and attacker, round by round",
        caption="Shares of the training images. Left, upper line: the most that a mixture of the "
        "programs found can keep of the attacked images found. Lower line: what the mixture does "
        "keep under a fresh attack by someone who knows it. Where the lines meet the game is over: "
        "these programs give no more. Right: programs in the mixture.",
        alt=_game_alt(steps),
        svg=draw("game", lambda figure: _paint_game(figure, steps), height=2.5),
        header=tuple(_GAME.values()),
        rows=tuple(tuple(_cell(step.get(key)) for key in _GAME) for step in steps),
    )


def _paint_game(figure: Figure, steps: list[dict[str, Any]]) -> None:
    values, support = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.125, right=0.97, bottom=0.19, top=0.88, wspace=0.28)
    for key, (name, like) in _VALUES.items():
        x, y = _points(steps, key, "round")
        look = LOOKS[like]
        shares = [100 * share for share in y]
        values.plot(
            x, shares, color=look.color, marker=look.marker, markersize=4, linewidth=1.8, label=name
        )
    values.set_title("right, in percent", loc="left", fontsize=10)
    percent_axis(values, "")
    values.legend(frameon=False, fontsize=8.5, loc="upper right")
    support.plot(*_points(steps, "support", "round"), color=INK, marker="o", markersize=4)
    support.set_title("programs in the mixture", loc="left", fontsize=10)
    support.set_ylim(bottom=0)
    for axes in (values, support):
        axes.set_xlabel("round")
        axes.xaxis.get_major_locator().set_params(integer=True)


def _game_alt(steps: list[dict[str, Any]]) -> str:
    first, last = steps[0], steps[-1]
    value = _number(last, "value")
    upper = "" if value is None else f", at most {100 * value:.1f} % possible with what was found"
    return (
        f"Under attack {100 * first['attacked']:.1f} % in round {first.get('round')}, "
        f"{100 * last['attacked']:.1f} % in round {last.get('round')}{upper}."
    )
