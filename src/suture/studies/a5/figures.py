"""Pictures of the A5 studies: images and their changes, certified error, training curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from suture.report import Drawing
from suture.report.figures.style import draw
from suture.report.table import Row
from suture.studies.a5.columns import diagonal, ordered, radius
from suture.studies.a5.measuring import unpacked

_COLORS = {
    "CROWN-IBP": "#5f6368",
    "O": "#009e73",
    "R": "#0072b2",
    "RC": "#d55e00",
    "P": "#009e73",
    "PC": "#0072b2",
    "PRC": "#d55e00",
}
_MARKS = {"CROWN-IBP": "o", "O": "D", "R": "s", "RC": "^", "P": "D", "PC": "s", "PRC": "^"}


def drawings(rows: list[Row]) -> list[Drawing]:
    """All that the rows allow."""
    made: list[Drawing] = []
    for eps in sorted({r["eps"] for r in rows}, reverse=True):
        own = [r for r in ordered(rows) if r["eps"] == eps and diagonal(r)]
        moved = [r for r in own if r["eps_d"] is not None]
        if not moved:
            continue
        widest = max(r["eps_d"] for r in moved)
        shown = [r for r in moved if r["eps_d"] == widest]
        made += [images(shown), over_radius([r for r in own if r["eps_d"] in (None, widest)])]
        if len({r["eps_d"] for r in moved}) > 1:
            made.append(over_defence(own))
        learnt = [r for r in own if r["eps_d"] in (None, widest) and r["curves"]]
        made += [curves(learnt)] if learnt else []
    return made


def _key(name: str, eps: float) -> str:
    return f"{name}-{radius(eps).replace('/', 'of').replace('.', '_')}"


def images(rows: list[Row]) -> Drawing:
    """Original, robustified and their difference, as in Fig. 3."""
    eps, eps_d = rows[0]["eps"], rows[0]["eps_d"]
    key = _key("images", eps)
    most = max(len(r["pictures"]["held"]) for r in rows)

    def paint(figure: Any) -> None:
        grid = figure.subplots(3 * len(rows), most, squeeze=False)
        figure.subplots_adjust(0.17, 0.01, 0.995, 0.99, wspace=0.04, hspace=0.06)
        for axes in grid.flat:
            axes.set_axis_off()
        for band, row in enumerate(rows):
            _band(grid[3 * band : 3 * band + 3], row)

    return Drawing(
        key,
        f"Original, robustified, difference (ε_A = {radius(eps)}, ε_D = {radius(eps_d)})",
        "Left images are certified after robustification, those with a red bar below are not. "
        "Grey differences are none; white is +ε_D, black -ε_D.",
        f"Grids of test images for {', '.join(r['recipe'] for r in rows)}.",
        draw(key, paint, height=1.55 * len(rows), width=6.4),
        ("recipe", "image", "certified"),
        tuple(
            (r["recipe"], str(i), "yes" if held else "no")
            for r in rows
            for i, held in enumerate(r["pictures"]["held"])
        ),
    )


def _band(grid: Any, row: Row) -> None:
    pictures = row["pictures"]
    before = unpacked(pictures["original"], pictures["shape"])
    after = unpacked(pictures["robustified"], pictures["shape"])
    change = ((after - before) / row["eps_d"] + 1) / 2
    names = (f"{row['recipe']}: original", "robustified", "difference")
    for line, (name, stack) in enumerate(zip(names, (before, after, change), strict=True)):
        grid[line][0].text(
            -0.12, 0.5, name, transform=grid[line][0].transAxes, ha="right", va="center", fontsize=7
        )
        for axes, picture, held in zip(grid[line], stack, pictures["held"], strict=False):
            image = picture.clamp(0, 1).permute(1, 2, 0).squeeze(-1).numpy()
            axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            if not held and line == 1:
                axes.axhline(image.shape[0] - 0.5, color="#d32f2f", linewidth=3)


def over_radius(rows: list[Row]) -> Drawing:
    """Certified error against the radius of the attack."""
    eps = rows[0]["eps"]
    widest = max(r["eps_d"] or 0.0 for r in rows)

    def paint(axes: Any) -> None:
        for row in rows:
            wrong = [100 * w / row["sweep_n"] for w in row["sweep_wrong"]]
            axes.plot(row["sweep"], wrong, **_look(row["recipe"]))
        axes.axvline(eps, color="#80868b", linestyle=":")
        axes.set_xlabel("ε, radius of the attack after robustification (L∞)")

    return _lines(
        _key("radius", eps),
        f"Certified error against ε (trained for ε = {radius(eps)}, ε_D = {radius(widest)})",
        "By intervals; the dotted line is ε_A^C = ε_A^R. What "
        "rises above the picture goes to 100 %.",
        paint,
        ("recipe", "ε", "certified error, wrong", "n"),
        [
            (r["recipe"], f"{e:g}", str(w), str(r["sweep_n"]))
            for r in rows
            for e, w in zip(r["sweep"], r["sweep_wrong"], strict=True)
        ],
        _top(rows),
    )


def over_defence(rows: list[Row]) -> Drawing:
    """Certified error against ε_D; the plain classifier stands at 0."""
    eps = rows[0]["eps"]
    plain = next((r for r in rows if r["eps_d"] is None), None)

    def paint(axes: Any) -> None:
        for recipe in ("O", "R", "RC"):
            own = [r for r in rows if r["recipe"] == recipe]
            start = [(0.0, 100 * plain["ibp_wrong"] / plain["n"])] if plain else []
            points = [*start, *((r["eps_d"], 100 * r["ibp_wrong"] / r["n"]) for r in own)]
            axes.plot([x for x, _ in points], [y for _, y in points], **_look(recipe))
        axes.set_xlabel("ε_D, radius of the defence (L∞)")

    return _lines(
        _key("defence", eps),
        f"Certified error against ε_D (ε_A = {radius(eps)})",
        "By intervals, over all test images.",
        paint,
        ("recipe", "ε_D", "certified error, wrong", "n"),
        [(r["recipe"], radius(r["eps_d"]), str(r["ibp_wrong"]), str(r["n"])) for r in rows],
        _top(rows),
    )


def curves(rows: list[Row]) -> Drawing:
    """Validation errors at the full radius, epoch by epoch."""
    eps = rows[0]["eps"]

    def paint(axes: Any) -> None:
        for row in rows:
            epochs = [c[0] for c in row["curves"]]
            color = _COLORS[row["recipe"]]
            axes.plot(epochs, [100 * c[3] for c in row["curves"]], color=color, label=row["recipe"])
            axes.plot(epochs, [100 * c[2] for c in row["curves"]], color=color, linestyle=":")
        axes.set_xlabel("epoch")

    return _lines(
        _key("curves", eps),
        f"Training (ε = {radius(eps)})",
        "Validation images: certified error by intervals at the full radius (lines) and clean "
        "error (dotted). R and P start from CROWN-IBP's classifier, RC from R.",
        paint,
        ("recipe", "epoch", "clean error, %", "certified error, %"),
        [
            (r["recipe"], str(int(c[0])), f"{100 * c[2]:.2f}", f"{100 * c[3]:.2f}")
            for r in rows
            for c in r["curves"]
        ],
        min(102.0, 2 * _top(rows)),
    )


def _top(rows: list[Row]) -> float:
    """Where the error axis ends: twice the largest certified error; more is off the picture."""
    worst = max(100 * r["ibp_wrong"] / r["n"] for r in rows)
    return min(102.0, 2 * worst + 2)


def _look(recipe: str) -> dict[str, Any]:
    return {"color": _COLORS[recipe], "marker": _MARKS[recipe], "label": recipe}


def _lines(
    key: str,
    title: str,
    caption: str,
    paint: Callable[[Any], None],
    header: tuple[str, ...],
    rows: list[tuple[str, ...]],
    top: float,
) -> Drawing:
    def whole(figure: Any) -> None:
        axes = figure.add_axes((0.14, 0.17, 0.82, 0.78))
        paint(axes)
        axes.set_ylim(0, top)
        axes.set_ylabel("error (%)")
        axes.legend(frameon=False)

    return Drawing(
        key, title, caption, f"Lines: {title}.", draw(key, whole, height=3.2), header, tuple(rows)
    )
