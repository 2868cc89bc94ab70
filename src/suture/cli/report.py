"""``suture report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suture import report
from suture.cli.common import Json, emit
from suture.evaluate import read_records
from suture.report import tables


def command(
    run: Annotated[Path, typer.Argument(help="A run folder with records.")],
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a run's page again from its records.

    Example: suture report suture-demo
    """
    page = report.write(run)
    records = read_records(run / "records.jsonl")
    facts = {"report": str(page), "verdict": report.verdict(records).sentence}
    table = tables.markdown(records) if markdown else tables.text(records)
    emit(as_json, facts, f"{table}\n\n{facts['verdict']}\nreport: {page}")
