"""``suture report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suture import report
from suture.cli.common import Json, emit
from suture.errors import ArgumentError
from suture.report import comparison, tables
from suture.report.comparison.fairness import fairness

PAGE = Path("comparison.html")


def command(
    runs: Annotated[
        list[Path], typer.Argument(help="A run folder with records; several are compared.")
    ],
    out: Annotated[
        Path | None, typer.Option(help=f"The page of a comparison; default {PAGE}.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown; of one run.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a run's page again from its records, or a page that compares several runs.

    Example: suture report runs/before runs/after --out before-and-after.html
    """
    if len(runs) > 1:
        if markdown:
            raise _only("one run with --markdown", f"{len(runs)} runs")
        _compare(runs, out or PAGE, as_json)
        return
    if out is not None:
        raise _only("several runs with --out; the page of one run stands in its folder", "one")
    (run,) = runs
    page = report.write(run)
    records = report.load(run).records
    facts = {"report": str(page), "verdict": report.verdict(records).sentence}
    table = tables.markdown(records) if markdown else tables.text(records)
    emit(as_json, facts, f"{table}\n\n{facts['verdict']}\nreport: {page}")


def _only(expected: str, got: str) -> ArgumentError:
    return ArgumentError(expected=expected, got=got, remedy="Leave the option out.")


def _compare(folders: list[Path], target: Path, as_json: bool) -> None:
    first, *others = comparison.opened(folders)
    page = comparison.write(folders, target)
    notes = {other.name: [n.sentence for n in fairness(first, other)] for other in others}
    facts = {
        "report": str(page),
        "runs": {run.name: run.headline.figures for run in (first, *others)},
        "notes": notes,
    }
    lines = [f"{run.letter}  {run.name}: {_said(run)}" for run in (first, *others)]
    for name, sentences in notes.items():
        lines += [f"{first.name} and {name}:", *(f"  {sentence}" for sentence in sentences)]
    emit(as_json, facts, "\n".join([*lines, f"report: {page}"]))


def _said(run: comparison.ComparedRun) -> str:
    return report.verdict(run.data.records).sentence
