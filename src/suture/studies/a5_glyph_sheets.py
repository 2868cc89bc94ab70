"""Tables and pictures of the study of letters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from suture.report import Drawing
from suture.report.figures.style import draw
from suture.studies import a5_figures, a5_sheets
from suture.studies.a5 import unpacked
from suture.studies.base import Row
from suture.studies.sheets import Sheet, rate

PRINTED = {
    "vanilla": (0.89, 100.0),
    "CROWN-IBP": (3.85, 13.85),
    "P": (3.08, 11.84),
    "PC": (0.73, 4.20),
}
"""Table 9: error and certified error in percent, ε_A = 0.1."""
ORDER = ("vanilla", "CROWN-IBP", "P", "PC", "PRC")
_ACROSS = 16


def ordered(rows: list[Row]) -> list[Row]:
    """In the table's order."""
    return sorted(rows, key=lambda r: ORDER.index(r["recipe"]))


def table_9(rows: list[Row]) -> Sheet:
    """Clean, attacked and certified error, and how far the letters moved."""
    header = (
        "recipe",
        "clean error",
        "error under attack",
        "certified, same pictures",
        "certified (IBP), all",
        "paper: error [certified], %",
        "mean change of a pixel",
        "training, s",
    )
    return Sheet(
        "Letters before a camera (Table 9)", header, tuple(map(_line, ordered(rows))), _TABLE
    )


_TABLE = (
    "The attacker sits between camera and reader, and changes pictures by at most ε_A; the "
    "letters themselves are out of its reach. Errors over fresh pictures that no training saw, the "
    "same draws of the camera for every recipe, with 95 % intervals over pictures, not over "
    "trainings. PRC is the recipe that the paper leaves open: behind the camera stands a "
    "robustifier, which may move every picture by ε_D again, and its attacker comes after that."
)


def _line(r: Row) -> tuple[str, ...]:
    printed = PRINTED.get(r["recipe"])
    return (
        r["recipe"],
        rate(r["clean_wrong"], r["n"]),
        rate(r["after_wrong"], r["few"]),
        rate(r["few_certified_wrong"], r["few"]),
        rate(r["ibp_wrong"], r["n"]),
        "–" if printed is None else f"{printed[0]:.2f} [{printed[1]:.2f}]",
        f"{r['mean_moved']:.3f}",
        f"{r['train_seconds']:.0f}",
    )


def bounds(rows: list[Row]) -> Sheet:
    """What each bound certifies of the pictures that were attacked."""
    header = ("recipe", "error under attack", "IBP", "CROWN-IBP", "CROWN")
    body = tuple(
        (
            r["recipe"],
            rate(r["after_wrong"], r["few"]),
            *(rate(r[f"few_{key}_wrong"], r["few"]) for key in ("ibp", "crown-ibp", "crown")),
        )
        for r in ordered(rows)
    )
    return Sheet(
        "Certified error by bound",
        header,
        body,
        "Errors on the same pictures by each bound, in float64.",
    )


def notes(rows: list[Row]) -> list[str]:
    """What a reader needs first."""
    told = [
        a5_sheets.proofs(rows),
        "The reader knows 62 letters of one font and nothing else, and the recipes move exactly "
        "those: certified error is over the camera's randomness, not over new fonts.",
        "Epochs were chosen by certified error on pictures of their own; the pictures measured "
        "here were taken once.",
    ]
    own = {r["recipe"]: r for r in rows}
    if {"CROWN-IBP", "PC"} <= own.keys():
        ratio = own["PC"]["ibp_wrong"] / max(1, own["CROWN-IBP"]["ibp_wrong"])
        told.append(
            f"PC's certified error is {ratio:.2f} of CROWN-IBP's (paper: 0.30), after as many "
            "epochs from the same vanilla reader."
        )
    return told


def figures(rows: list[Row]) -> list[Drawing]:
    """Letters for each recipe that moves them; certified error over ε; training curves."""
    own = ordered(rows)
    moved = [r for r in own if r["moved"] > 0]
    drawn = [_letters(r) for r in moved]
    robust = [r for r in own if r["recipe"] != "vanilla"]
    if robust:
        drawn += [a5_figures.over_radius(robust), a5_figures.curves(robust)]
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
