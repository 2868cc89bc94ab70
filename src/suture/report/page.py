"""One run → one self-contained HTML page: no network, no scripts, the same bytes every time."""

from __future__ import annotations

from functools import cache
from itertools import groupby
from pathlib import Path

import jinja2

from suture.report.about import about
from suture.report.checks import warned
from suture.report.downloads import results_csv
from suture.report.environment import environment
from suture.report.figures import figures
from suture.report.grid import grid
from suture.report.judge import verdict
from suture.report.programs import program_table
from suture.report.provenance import is_finished, provenance
from suture.report.run import RunData, load
from suture.report.tables import TableRow, accuracy_rows, group_title
from suture.storage import write_bytes

NAME = "report.html"
_FOLD = 4  # more single programs than this would bury the rows that decide


def write(run_folder: Path) -> Path:
    """Read a run folder, render its page, and put it there as ``report.html``.

    The page appears whole or not at all: it is written beside, flushed to disk, and renamed.

    Raises:
        BundleError: when the run folder is incomplete or altered.
        StorageError: when the page cannot be written.
    """
    target = Path(run_folder) / NAME
    page = render(load(Path(run_folder)))
    # JSON may hold lone surrogates, which UTF-8 cannot: a title must not stop the page.
    write_bytes(target, page.encode("utf-8", errors="replace"))
    return target


def render(run: RunData) -> str:
    """The page as text: a pure function of the run's data."""
    rows = accuracy_rows(run.records)
    alone = [row for row in rows if row.program]
    folded = alone if len(alone) > _FOLD else []
    return _template().render(
        title=str(run.info.get("title") or "Untitled run"),
        about=about(run),
        kind=str(run.info.get("kind") or "run"),
        finished=is_finished(run.info),
        verdict=verdict(run.records),
        notes=_notes(run),
        has_defence=any(row.defended for row in rows),
        has_repeats=any(c.spread for row in rows for c in (row.undefended, row.defended) if c),
        table_csv=results_csv(rows, has_defence=any(row.defended for row in rows)),
        groups=_grouped([row for row in rows if row not in folded]),
        folded=folded,
        warnings=warned(run.records),
        figures=figures(run),
        grid=grid(run.examples),
        programs=program_table(run.programs),
        provenance=provenance(run),
    )


def _notes(run: RunData) -> tuple[str, ...]:
    """What the run wants said beside its verdict."""
    noted = run.info.get("notes")
    return tuple(n for n in noted if isinstance(n, str)) if isinstance(noted, list) else ()


def _grouped(rows: list[TableRow]) -> list[tuple[str, list[TableRow]]]:
    has_defence = any(row.defended for row in rows)
    titled = [(group_title(row.group, has_defence=has_defence), row) for row in rows]
    return [
        (title, [row for _, row in own]) for title, own in groupby(titled, lambda pair: pair[0])
    ]


@cache
def _template() -> jinja2.Template:
    return environment().get_template("page.html.j2")
