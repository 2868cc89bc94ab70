"""Rows of the DefEnSyn study → its pictures: Figures 2, 3, 6, 7, 8, and the best programs."""

from __future__ import annotations

from collections.abc import Sequence

from suture.report import Drawing
from suture.report.figures.programs import change_figure, correlation_figure, program_figure
from suture.report.figures.sweeps import SweepPoint, sweep_figure
from suture.report.table import Row
from suture.studies.defensyn.settings import ABLATED, FULL, KS, NONE, SIZES, SWEPT

_SWEEP = "Clean accuracy, the paper's protocol, and what who knows the programs leaves."


def drawings(rows: list[Row]) -> list[Drawing]:
    """All figures that there are rows for."""
    made: list[Drawing] = []
    for row in rows:
        if row["what"] == "features":
            made += [_changes(row), _correlation(row)]
    for name in SWEPT:
        points = [(float(k), _of(rows, name, FULL if k == 30 else f"K={k}")) for k in KS]
        made += _sweep(f"k-{name}", f"Figure 6: programs K ({name})", "K", points)
    made += _lengths(rows)
    points = [(float(n), _of(rows, ABLATED, FULL if n == 750 else f"samples={n}")) for n in SIZES]
    made += _sweep("samples", f"Figure 8: training images ({ABLATED})", "training images", points)
    best = _of(rows, ABLATED, FULL)
    made += [] if best is None else _programs(best)
    return made


def _of(rows: Sequence[Row], setting: str, variant: str) -> Row | None:
    return next(
        (
            r
            for r in rows
            if r["what"] == "defence" and r["setting"] == setting and r["variant"] == variant
        ),
        None,
    )


def _changes(row: Row) -> Drawing:
    name = row["setting"]
    return change_figure(
        f"changes-{name}",
        f"Figures 2, 3: how far the attack moves each feature ({name})",
        row["changes"],
    )


def _correlation(row: Row) -> Drawing:
    name = row["setting"]
    return correlation_figure(
        f"correlation-{name}",
        f"Figure 3, right: correlation of features ({name})",
        row["first"],
        row["correlation"],
    )


def _sweep(
    key: str, title: str, axis: str, points: list[tuple[float, Row | None]]
) -> list[Drawing]:
    series: dict[str, list[SweepPoint]] = {"clean": [], "paper": [], "adaptive": []}
    for x, row in points:
        if row is None:
            continue
        left = row["left"]
        for name, right, n in (
            ("clean", row["clean"], row["n"]),
            ("paper", row["paper"][0], row["n"]),
            ("adaptive", left["right"], left["n"]),
        ):
            series[name].append(SweepPoint(x, right, n))
    return [sweep_figure(key, title, axis, series, _SWEEP)] if len(series["clean"]) > 1 else []


def _lengths(rows: list[Row]) -> list[Drawing]:
    """Figure 7: the top K after each length, against the backdoor."""
    own = [r for r in rows if r["what"] == "backdoor length"]
    bare = [r for r in rows if r["what"] == "backdoor" and r["variant"] == NONE]
    if not own:
        return []
    points = [(0.0, row) for row in bare] + [(float(row["length"]), row) for row in own]
    series = {
        "clean": [SweepPoint(x, row["clean"], row["n"]) for x, row in points],
        "triggered": [SweepPoint(x, row["triggered"], row["n"]) for x, row in points],
    }
    caption = "The top K programs after each length; length 0 is the poisoned network as it is."
    return [
        sweep_figure("length", "Figure 7: program length (backdoor)", "length", series, caption)
    ]


def _programs(row: Row) -> list[Drawing]:
    texts = row["programs"][:4]
    return [
        program_figure(f"program-{i}", f"Program {i + 1} of {row['kept']} ({ABLATED})", text)
        for i, text in enumerate(texts)
    ]
