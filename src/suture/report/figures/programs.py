"""What repair programs live on: how features move and hang together, and what a program touches."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from suture.report.figures.style import INK, LOOKS, Drawing, draw
from suture.report.programs import flows, picture

_FIRST = 10


def change_figure(key: str, title: str, changes: Sequence[float]) -> Drawing:
    """Median change of every feature under attack, and of the first ten (DefEnSyn, Figures 2, 3).

    Args:
        key, title: of the drawing.
        changes: percent, one number a feature.
    """

    def paint(figure: Figure) -> None:
        whole, first = figure.subplots(1, 2, width_ratios=(2, 1))
        figure.subplots_adjust(left=0.125, right=0.98, bottom=0.2, top=0.88, wspace=0.25)
        whole.bar(range(len(changes)), changes, width=1.0, color=LOOKS["adaptive"].color)
        whole.set_title("all features", loc="left", fontsize=10)
        whole.set_ylabel("median change, %")
        few = list(changes[:_FIRST])
        first.bar(range(len(few)), few, color=LOOKS["adaptive"].color)
        first.set_title(f"the first {len(few)}", loc="left", fontsize=10)
        for axes in (whole, first):
            axes.set_xlabel("feature")
            axes.set_xlim(-0.5)

    ordered = sorted(changes)
    half = ordered[len(ordered) // 2]
    return Drawing(
        key=key,
        title=title,
        caption="Median over the attacked images of |v' − v|, in percent of the feature's mean "
        "absolute value on clean images. Features that move most are what a repair replaces.",
        alt=f"{len(changes)} bars; half of them below {half:.1f} %, the highest "
        f"{ordered[-1]:.1f} %.",
        svg=draw(key, paint, height=2.7),
        header=("Feature", "Median change, %"),
        rows=tuple((f"v{i}", f"{value:.2f}") for i, value in enumerate(changes)),
    )


def correlation_figure(
    key: str, title: str, names: Sequence[int], matrix: Sequence[Sequence[float]]
) -> Drawing:
    """Pearson correlations of some features on clean inputs (DefEnSyn, Figure 3, right).

    Args:
        key, title: of the drawing.
        names: the features' numbers.
        matrix: their correlations, in [-1, 1].
    """

    def paint(figure: Figure) -> None:
        axes = figure.add_axes((0.12, 0.12, 0.66, 0.84))
        shown = axes.pcolormesh(matrix, cmap="RdBu_r", vmin=-1, vmax=1, edgecolors="white")
        axes.set_aspect("equal")
        axes.grid(visible=False)
        places = [i + 0.5 for i in range(len(names))]
        axes.set_xticks(places, [str(name) for name in names])
        axes.set_yticks(places, [str(name) for name in names])
        axes.invert_yaxis()
        for i, row in enumerate(matrix):
            for j, value in enumerate(row):
                colour = "white" if abs(value) > 0.6 else INK
                axes.text(
                    j + 0.5,
                    i + 0.5,
                    f"{value:.1f}",
                    ha="center",
                    va="center",
                    fontsize=6.5,
                    color=colour,
                )
        bar = figure.add_axes((0.84, 0.16, 0.03, 0.74))
        figure.colorbar(shown, cax=bar)
        bar.grid(visible=False)

    pairs = [(abs(matrix[i][j]), names[i], names[j]) for i in range(len(names)) for j in range(i)]
    most = max(pairs, default=(0.0, 0, 0))
    return Drawing(
        key=key,
        title=title,
        caption="A feature that is moved far can be replaced by one that is moved little and "
        "hangs together with it.",
        alt=f"A {len(names)} by {len(names)} matrix; the strongest pair is v{most[1]} and "
        f"v{most[2]}, |r| = {most[0]:.2f}.",
        svg=draw(key, paint, height=3.7),
        header=("Feature", *(f"v{name}" for name in names)),
        rows=tuple(
            (f"v{name}", *(f"{value:.3f}" for value in row))
            for name, row in zip(names, matrix, strict=True)
        ),
    )


def program_figure(key: str, title: str, text: str) -> Drawing:
    """A program as text, and what flows from which feature to which."""
    edges = flows(text)
    return Drawing(
        key=key,
        title=title,
        caption=text,
        alt="; ".join(f"{target} from {source}" for source, target in edges),
        svg=str(picture(edges)).replace("<svg ", '<svg style="max-width: 15rem" ', 1),
        header=("Read", "Written"),
        rows=tuple(edges),
    )
