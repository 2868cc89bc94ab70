"""Records as a command's answer: the table for people, the numbers for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from suture import report
from suture.cli.common import Bars, emit, timed
from suture.cli.engines import note, noted
from suture.data import Dataset
from suture.engine import Engine, Run
from suture.evaluate import Plan, Record, Subject
from suture.pipeline import KeepImages, assess
from suture.report import tables, verdict
from suture.types import LabelledImages, described


def measure(
    subjects: list[Subject],
    batch: LabelledImages,
    plan: Plan,
    dataset: Dataset,
    run: Run,
    engine: Engine,
    *,
    seed: int,
    batch_size: int,
    as_json: bool,
    keep_images: KeepImages = "some",
) -> None:
    """Evaluate the subjects into the run, write its page, and print the answer."""
    for said in _notes(subjects):
        note(said)
    run.info["notes"] = [*noted()]
    with run, engine, timed() as clock, Bars() as bars:
        records = assess(
            subjects,
            batch,
            plan,
            dataset,
            run,
            seed=seed,
            batch_size=batch_size,
            engine=engine,
            on_progress=bars,
            keep_images=keep_images,
        )
    run.finish()
    facts = answer(records, run.folder, report.write(run.folder), clock["seconds"])
    emit(as_json, facts, "" if as_json else text(records, facts))


def _notes(subjects: list[Subject]) -> list[str]:
    """What the models themselves want said about attacks on them."""
    words = [described(subject.model).about_attacks() for subject in subjects]
    return list(dict.fromkeys(word for word in words if word))


def answer(records: list[Record], folder: Path, page: Path, seconds: float) -> dict[str, Any]:
    """What ``--json`` prints for a command that measured."""
    judged = verdict(records)
    return {
        **judged.headline.figures,
        "n": records[0].n,
        "verdict": judged.sentence,
        "warnings": [w for r in records for w in r.warnings],
        "seconds": seconds,
        "seed": records[0].seed,
        "report": str(page),
        "records": str(folder / "records.jsonl"),
        "run": str(folder),
    }


def text(records: list[Record], facts: dict[str, Any]) -> str:
    """The table, the verdict, and where to read more."""
    return "\n".join(
        [
            tables.text(records),
            "",
            facts["verdict"],
            f"{facts['seconds']:.1f} s, seed {facts['seed']}",
            f"report: {facts['report']}",
        ]
    )
