"""Measure what a study still lacks, keep every cell as it comes, and draw the page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from suture.engine import Engine, Inline, Run
from suture.errors import BundleError
from suture.provenance import peak_memory_mb
from suture.rng import Stream
from suture.storage import write_json, write_text
from suture.studies.base import Cell, Row, Study
from suture.studies.page import render

OnProgress = Callable[[str, int, int], None]


def run_study(
    study: Study,
    run: Run,
    *,
    seed: int = 0,
    engine: Engine | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[list[Row], Path]:
    """Measure all cells that the run does not hold yet; return all rows, and the page.

    Every finished cell is a file in ``checkpoints/cells``: a run that was stopped goes on where it
    was, and a cell's stream depends on its key alone, so its rows do not depend on what ran before.
    """
    cells = study.cells()
    keep = run.folder / "checkpoints" / "cells"
    missing = [cell for cell in cells if not _file(keep, cell).exists()]
    done = len(cells) - len(missing)
    if on_progress is not None:
        on_progress("cells", done, len(cells))
    works = [partial(_measure, cell, Stream(seed).child(cell.key)) for cell in missing]
    for cell, rows in zip(missing, (engine or Inline()).imap(_call, works), strict=True):
        write_json(_file(keep, cell), rows)
        done += 1
        if on_progress is not None:
            on_progress("cells", done, len(cells))
    rows = [row for cell in cells for row in _kept(keep, cell)]
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    write_text(run.folder / "rows.jsonl", "".join(line + "\n" for line in lines))
    run.finish()
    page = run.folder / "report.html"
    write_text(page, render(study, rows, run.info))
    return rows, page


def _call(work: Callable[[], list[Row]]) -> list[Row]:
    return work()


def _measure(cell: Cell, stream: Stream) -> list[Row]:
    """The cell's rows, each with its key, its time and the memory behind it."""
    started = time.perf_counter()
    rows = cell.measure(stream)
    spent = round(time.perf_counter() - started, 3)
    facts = {"cell_seconds": spent, "peak_memory_mb": round(peak_memory_mb(), 1)}
    return [{"cell": cell.key, **row, **facts} for row in rows]


def _file(keep: Path, cell: Cell) -> Path:
    safe = "".join(c if c.isalnum() or c in "-_.=" else "_" for c in cell.key)
    return keep / f"{safe}.json"


def _kept(keep: Path, cell: Cell) -> list[Row]:
    path = _file(keep, cell)
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        assert all(row["cell"] == cell.key for row in rows)
    except (ValueError, TypeError, KeyError, AssertionError):
        raise BundleError(
            expected=f"the rows of cell {cell.key!r} in {path}",
            got="something else",
            remedy="Remove that file and run the study again: only that cell is measured anew.",
        ) from None
    return list(rows)
