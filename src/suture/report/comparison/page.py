"""Several runs → one self-contained page that compares them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2

from suture.report.comparison.compared import ComparedRun, opened
from suture.report.comparison.fairness import comparable, fairness
from suture.report.comparison.headlines import headline_rows
from suture.report.comparison.rows import ComparedRow, alone, compared_rows
from suture.report.comparison.settings import SettingRow, settings
from suture.report.downloads import csv_uri
from suture.report.environment import environment
from suture.report.judge import verdict
from suture.report.wording import MISSING
from suture.storage import write_bytes


def write(folders: Sequence[Path], target: Path) -> Path:
    """Read the runs, and write the page that compares them to ``target``, whole or not at all.

    Raises:
        ArgumentError: not at least two different runs.
        BundleError: one of them cannot be read, or has no records.
        StorageError: the page cannot be written.
    """
    write_bytes(target, render(opened(folders)).encode("utf-8", errors="replace"))
    return target


def render(runs: Sequence[ComparedRun]) -> str:
    """The page as text: a pure function of the runs' data."""
    return _template().render(**context(runs))


def context(runs: Sequence[ComparedRun]) -> dict[str, Any]:
    """What the template shows, by name."""
    first, *others = runs
    notes = [(other, fairness(first, other)) for other in others]
    rows, told = compared_rows(runs), settings(runs)
    return {
        "runs": runs,
        "verdicts": [verdict(run.data.records) for run in runs],
        "notes": notes,
        "fair": all(comparable(own) for _, own in notes),
        "headlines": headline_rows(runs),
        "groups": [(title, list(own)) for title, own in groupby(rows, lambda row: row.group)],
        "paired": any(pair for row in rows for pair in row.pairs),
        "drawn": any(row.drawn for row in rows),
        "repeated": any(row.repeated for row in rows),
        "alone": alone(runs),
        "settings": told,
        "rows_csv": _rows_csv(runs, rows),
        "settings_csv": _settings_csv(runs, told),
    }


def _rows_csv(runs: Sequence[ComparedRun], rows: Sequence[ComparedRow]) -> str:
    cells = ("%", "low", "high", "counts")
    header = ["group", "measurement", *(f"{run.letter} {c}" for run in runs for c in cells)]
    for run in runs[1:]:
        names = [runs[0].letter, run.letter]
        words = ("both right", f"only {names[0]}", f"only {names[1]}", "neither", "McNemar p")
        header += [f"{'/'.join(names)} {word}" for word in words]
    lines = []
    for row in rows:
        line = [row.group, row.name]
        for cell in row.cells:
            numbers = (cell.percent, cell.low, cell.high) if cell else ()
            line += [f"{v:.4g}" for v in numbers] + [cell.counts] if cell else [""] * 4
        for pair in row.pairs:
            known = (pair.both, pair.first, pair.second, pair.neither, pair.p) if pair else ()
            line += [f"{v:.4g}" for v in known] if pair else [""] * 5
        lines.append(line)
    return csv_uri(header, lines)


def _settings_csv(runs: Sequence[ComparedRun], rows: Sequence[SettingRow]) -> str:
    header = ["setting", *(run.letter for run in runs), "differs"]
    return csv_uri(
        header,
        [
            (row.name, *(v.replace(MISSING, "") for v in row.values), str(row.differs))
            for row in rows
        ],
    )


@cache
def _template() -> jinja2.Template:
    return environment().get_template("comparison.html.j2")
