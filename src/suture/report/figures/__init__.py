"""Records → figures as inline SVG, each with the numbers behind it."""

from __future__ import annotations

from suture.report.figures.classes import class_figure
from suture.report.figures.lines import query_figures, radius_figures
from suture.report.figures.style import Drawing
from suture.report.figures.trace import game_figure, trace_figure
from suture.report.figures.trade_off import candidate_figure, epoch_figure
from suture.report.run import RunData

__all__ = ["Drawing", "figures"]


def figures(run: RunData) -> list[Drawing]:
    """Every figure that the run has numbers for, in reading order."""
    names = run.examples.class_names if run.examples else ()
    maybe = [
        class_figure(run.records, names),
        candidate_figure(run.told.get("candidates", ())),
        epoch_figure(run.told.get("curve", ()), run.told.get("before", {})),
        trace_figure(run.trace),
        game_figure(run.told.get("game")),
    ]
    lines = [*radius_figures(run.records), *query_figures(run.records)]
    return [*lines, *(figure for figure in maybe if figure)]
