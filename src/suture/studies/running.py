"""Measure what a study still lacks, keep every cell as it comes, and draw the page."""

from __future__ import annotations

import fnmatch
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from suture.engine import Engine, Failure, Inline, Outcome, Run, telling
from suture.errors import ArgumentError, BundleError, EngineError
from suture.provenance import peak_memory_mb
from suture.rng import Stream
from suture.storage import write_json, write_text
from suture.studies import shelf
from suture.studies.base import Cell, Row, Study
from suture.studies.page import render
from suture.types import OnProgress, untold


def run_study(
    study: Study,
    run: Run,
    *,
    seed: int = 0,
    only: Sequence[str] = (),
    engine: Engine | None = None,
    pieces: Engine | None = None,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> tuple[list[Row], Path]:
    """Measure all cells that the run does not hold yet; return all rows, and the page.

    Patterns in ``only`` (``*-autoattack``) choose some of them; the page shows what there is.

    Every finished cell is a file in ``checkpoints/cells``: a run that was stopped goes on where it
    was, and a cell's stream depends on its key alone, so its rows do not depend on what ran before.
    A cell that fails does not lose the others: it is a line of ``failures.jsonl``, the page is made
    of the rest, and the same run goes on with what failed.

    Args:
        engine: gets the cells.
        pieces: gets what a cell maps over, for a study of few large cells, which then run here.
        device: where models and images are; every cell, and every worker of ``engine``, uses it.

    Raises:
        ArgumentError: a pattern that fits no cell; another device than "cpu" for a study that
            computes there only.
        EngineError: some cells failed; the first one's own error if none could be measured.
    """
    study.check_device(device)
    keep = run.folder / "checkpoints" / "cells"
    wanted = _chosen(study.cells(), only)
    cells = [cell for cell in study.cells() if cell.key in wanted or _file(keep, cell).exists()]
    missing = [cell for cell in cells if not _file(keep, cell).exists()]
    done = len(cells) - len(missing)
    (tell := on_progress or untold)("cells", done, len(cells))
    share = run.folder / "checkpoints" / "shared"
    works = [
        partial(_measure, cell, Stream(seed).child(cell.key), share, pieces, device)
        for cell in missing
    ]
    failed: list[tuple[Cell, Failure]] = []
    for outcome in _outcomes(engine or Inline(), works, tell):
        cell = missing[outcome.index]
        if outcome.failure is not None:
            failed.append((cell, outcome.failure))
            continue
        write_json(_file(keep, cell), outcome.get())
        done += 1
        tell("cells", done, len(cells))
    if failed and done == 0:
        raise failed[0][1].error
    lost = {cell.key for cell, _ in failed}
    rows = [row for cell in cells if cell.key not in lost for row in _kept(keep, cell)]
    page = _written(study, run, rows, failed)
    if failed:
        raise _incomplete(run, failed, len(cells))
    return rows, page


def _written(study: Study, run: Run, rows: list[Row], failed: list[tuple[Cell, Failure]]) -> Path:
    """The rows, what failed, and the page."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    write_text(run.folder / "rows.jsonl", "".join(line + "\n" for line in lines))
    told = [{"cell": cell.key, **failure.to_dict()} for cell, failure in failed]
    write_text(run.folder / "failures.jsonl", "".join(json.dumps(row) + "\n" for row in told))
    run.finish("incomplete" if failed else "finished")
    page = run.folder / "report.html"
    write_text(page, render(study, rows, run.info))
    return page


def _outcomes(
    engine: Engine, works: Sequence[Callable[[], list[Row]]], on_progress: OnProgress
) -> Iterator[Outcome[list[Row]]]:
    """What comes of each; a cell in this process says how far it is."""
    with telling.heard_by(on_progress):
        yield from engine.outcomes(_call, works)


def _chosen(cells: list[Cell], patterns: Sequence[str]) -> list[str]:
    """Keys of the cells that fit one of the patterns; of all where there are none."""
    keys = [cell.key for cell in cells]
    for pattern in patterns:
        if not fnmatch.filter(keys, pattern):
            raise ArgumentError(
                expected=f"cells of the study: {', '.join(keys)}",
                got=f"--cells {pattern}",
                remedy="A pattern may hold * and ?.",
            )
    return [k for k in keys if not patterns or any(fnmatch.fnmatch(k, p) for p in patterns)]


def _incomplete(run: Run, failed: list[tuple[Cell, Failure]], cells: int) -> EngineError:
    cell, failure = failed[0]
    return EngineError(
        expected=f"all {cells} cells of the study measured",
        got=f"{len(failed)} that failed, {cell.key!r} with: {failure.error}",
        remedy=f"{run.folder / 'failures.jsonl'} has them all, report.html shows the rest; "
        f"`suture resume {run.folder}` tries only these again.",
    )


def _call(work: Callable[[], list[Row]]) -> list[Row]:
    return work()


def _measure(
    cell: Cell, stream: Stream, share: Path, pieces: Engine | None, device: str
) -> list[Row]:
    """The cell's rows, each with its key, its time and the memory behind it."""
    started = time.perf_counter()
    shelf.use(share, pieces, device)
    try:
        rows = cell.measure(stream)
    finally:
        shelf.use(None)
    spent = round(time.perf_counter() - started, 3)
    facts: Row = {"cell_seconds": spent, "peak_memory_mb": round(peak_memory_mb(), 1)}
    facts |= {"device": device} if device != "cpu" else {}
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
