"""``suture certify`` for classifiers that vote: counts, records, certificates, and the page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from torch import nn

from suture.certify import CheckResult
from suture.certify.smoothing import (
    VoteChecker,
    certify_votes,
    load_smoothing,
    save_smoothing,
)
from suture.cli.common import Bars, emit, timed
from suture.cli.options import Keeping, Spreading
from suture.engine import Recorded, Run
from suture.errors import ModelError, SutureError
from suture.rng import Stream
from suture.storage import write_text
from suture.studies.page import render
from suture.studies.smoothing import CertifiedByVotes, rows_of_certificates
from suture.types import Batch


@dataclass(frozen=True)
class Counting:
    """Options about certificates that were counted."""

    panel: ClassVar[str] = "A model that votes over noisy copies"
    copies: Annotated[
        int | None, typer.Option("--copies", help="Noisy copies an image; default: its n.", min=1)
    ] = None
    certificates: Annotated[
        Path | None,
        typer.Option(
            "--certificates", help="Re-check those of this folder or run, not those beside."
        ),
    ] = None
    redraw: Annotated[
        int,
        typer.Option(
            "--redraw", help="Pieces of 1 024 recorded copies that are drawn again; 0: all.", min=0
        ),
    ] = 2

    @property
    def pieces(self) -> int | None:
        """Pieces that are drawn again, ``None`` for all."""
        return self.redraw or None


def count(
    study: CertifiedByVotes,
    model: nn.Module,
    batch: Batch,
    copies: int | None,
    *,
    keeping: Keeping,
    spreading: Spreading,
) -> None:
    """Certify the images and write run, certificates and page."""
    run = keeping.begin("certify", study.title, model=study.model, study=repr(study))
    # One thread an image, wherever it is counted: sums of another number may round otherwise.
    engine = spreading.start(threads=1)
    with run, engine, timed() as clock, Bars() as bars:
        made = certify_votes(
            model,
            batch,
            n=copies,
            generator=Stream(keeping.seed).child("votes"),
            engine=Recorded(engine, run.ledger),
            on_progress=bars,
        )
        save_smoothing(made, run.artifacts / "certificates")
        facts = [{**one.plain(), "image": one.plain()["image"]["sha256"]} for one in made]
        _write_lines(run.artifacts / "images.jsonl", facts)
        rows = rows_of_certificates(made)
        _write_lines(run.folder / "rows.jsonl", rows)
    _finish(study, rows, run, clock["seconds"], as_json=keeping.as_json)


def _finish(
    study: CertifiedByVotes, rows: list[dict[str, Any]], run: Run, seconds: float, *, as_json: bool
) -> None:
    run.finish()
    page = run.folder / "report.html"
    write_text(page, render(study, rows, run.info))
    facts = {"study": study.name, "rows": rows, "run": str(run.folder), "report": str(page)}
    parts = [table.terminal() for table in study.tables(rows)]
    text = "\n\n".join([*parts, *study.notes(rows), f"page: {page}, {seconds:.1f} s"])
    emit(as_json, facts | {"seconds": seconds}, "" if as_json else text)


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    write_text(path, "".join(line + "\n" for line in lines))


def check_votes(
    files: list[Path], model: nn.Module, redraw: int | None, seed: int
) -> list[dict[str, Any]]:
    """One answer for each file.

    Args:
        redraw: pieces of each certificate's copies that are drawn again, ``None`` for all.
    """
    try:
        stream = Stream(seed).child("checking")
        checker = VoteChecker(model, pieces=redraw, stream=stream)
    except ModelError as error:
        return [_answer(file, None, str(error)) for file in files]
    results = []
    with Bars() as bars:
        for done, file in enumerate(files, start=1):
            results.append(_checked(checker, file))
            bars("certificates", done, len(files))
    return results


def _checked(checker: VoteChecker, file: Path) -> dict[str, Any]:
    try:
        return _answer(file, checker(load_smoothing(file)), "")
    except SutureError as error:
        return _answer(file, None, str(error))


def _answer(file: Path, verdict: CheckResult | None, reason: str) -> dict[str, Any]:
    verdict = verdict or CheckResult(False, float("-inf"), "none", reason)
    margin = verdict.margin if verdict.holds else None
    facts = {"file": file.name, "holds": verdict.holds, "margin": margin}
    return facts | {"by": verdict.by, "reason": verdict.reason, "tried": None}
