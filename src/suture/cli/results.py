"""Records as a command's answer: the table for people, the numbers for programs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from suture import report
from suture.cli.common import Bars, emit, say, timed
from suture.data import Dataset
from suture.engine import Engine, Run
from suture.evaluate import Kind, Plan, Record, Role, Subject
from suture.pipeline import assess
from suture.report import tables, verdict
from suture.types import Batch


def measure(
    subjects: list[Subject],
    batch: Batch,
    plan: Plan,
    dataset: Dataset,
    run: Run,
    engine: Engine,
    *,
    seed: int,
    batch_size: int,
    as_json: bool,
) -> None:
    """Evaluate the subjects into the run, write its page, and print the answer."""
    run.info["notes"] = _notes(subjects)
    for note in run.info["notes"]:
        say(f"note: {note}")
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
        )
    run.finish()
    facts = answer(records, run.folder, report.write(run.folder), clock["seconds"])
    emit(as_json, facts, "" if as_json else text(records, facts))


def _notes(subjects: list[Subject]) -> list[str]:
    """What the models themselves want said about attacks on them."""
    words = [getattr(subject.model, "about_attacks", None) for subject in subjects]
    return list(dict.fromkeys(word() for word in words if callable(word)))


def headline(records: list[Record]) -> dict[str, Any]:
    """Clean and robust accuracy before and after, in percent; ``None`` where not measured.

    ``after_adaptive`` is the lowest adaptive figure: of the strongest attack per image and of
    every single adaptive row, each a mean over repetitions.
    """
    undefended = [r for r in records if r.role is Role.UNDEFENDED]
    defended = [r for r in records if r.role is Role.DEFENDED]
    return {
        "clean_accuracy": _mean(_clean(undefended)),
        "clean_accuracy_defended": _mean(_clean(defended)),
        "robust_accuracy": {
            "before": _mean(_rows(undefended, "paper")),
            "before_adaptive": _lowest(_rows(undefended, "adaptive")),
            "after_paper": _mean(_rows(defended, "paper")),
            "after_adaptive": _lowest(_rows(defended, "adaptive")),
        },
    }


def answer(records: list[Record], folder: Path, page: Path, seconds: float) -> dict[str, Any]:
    """What ``--json`` prints for a command that measured."""
    judged = verdict(records)
    return {
        **headline(records),
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


def _clean(records: list[Record]) -> list[Record]:
    return [r for r in records if r.metric == "clean accuracy"]


def _rows(records: list[Record], protocol: str) -> list[Record]:
    side = (Kind.CURVE, Kind.EVERY, Kind.PROGRAM)
    return [
        r
        for r in records
        if r.protocol == protocol and r.metric == "robust accuracy" and r.kind not in side
    ]


def _mean(records: Iterable[Record]) -> float | None:
    figures = [r.percent for r in records]
    return sum(figures) / len(figures) if figures else None


def _lowest(records: list[Record]) -> float | None:
    labels = dict.fromkeys(r.row for r in records)
    means = [_mean(r for r in records if r.row == label) for label in labels]
    return min((m for m in means if m is not None), default=None)
