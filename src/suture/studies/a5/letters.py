"""Pictures of the study of letters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from suture.report import Drawing
from suture.report.figures.style import draw
from suture.report.table import Row
from suture.studies.a5.columns import ordered
from suture.studies.a5.figures import curves, over_radius
from suture.studies.a5.measuring import unpacked

_ACROSS = 16


def drawings(rows: list[Row]) -> list[Drawing]:
    """Letters for each recipe that moves them; certified error over ε; training curves."""
    own = ordered(rows)
    moved = [r for r in own if r["moved"] > 0]
    drawn = [_letters(r) for r in moved]
    robust = [r for r in own if r["recipe"] != "vanilla"]
    if robust:
        drawn += [over_radius(robust), curves(robust)]
    return drawn


def _letters(r: Row) -> Drawing:
    recipe, kept = r["recipe"], r["sheet"]
    keys = ("nominal", "robustified", "seen")
    nominal, changed, seen = (unpacked(kept[k], kept["shape"]).numpy()[:, 0] for k in keys)
    difference = (changed - nominal) / r["eps_d"] / 2 + 0.5
    bands = (
        ("to be made", changed),
        ("as they were", nominal),
        ("change", difference),
        ("pictures", seen),
    )

    def paint(figure: Any) -> None:
        for axes, (name, letters) in zip(figure.subplots(4, 1), bands, strict=True):
            axes.imshow(_montage(letters), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_axis_off()
            axes.set_title(name, fontsize=7, loc="left", pad=2)
        figure.subplots_adjust(0.005, 0.005, 0.995, 0.95, hspace=0.16)

    name = f"letters-{recipe.lower()}"
    return Drawing(
        name,
        f"The 62 letters of A5/{recipe} (ε_D = {r['eps_d']:g})",
        "As they are to be made, as they were, their change (grey is none; white is +ε_D, black "
        "-ε_D), and one picture of each as the reader gets it.",
        f"Four sheets of 62 letters for A5/{recipe}.",
        draw(name, paint, height=5.4, width=4.9),
        ("recipe", "largest change of a pixel", "mean change of a pixel"),
        ((recipe, f"{r['moved']:.3f}", f"{r['mean_moved']:.3f}"),),
    )


def _montage(letters: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(n, h, w)`` side by side, 16 a row; the last row is filled up with black."""
    missing = -len(letters) % _ACROSS
    letters = np.concatenate([letters, np.zeros_like(letters[:missing])])
    rows = [
        np.concatenate(list(letters[i : i + _ACROSS]), 1) for i in range(0, len(letters), _ACROSS)
    ]
    return np.concatenate(rows, 0)
