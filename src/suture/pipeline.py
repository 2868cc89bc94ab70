"""The whole way: a model and data in; a repaired model, records and a report page out.

model + data → attack → repair → evaluate → report
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from suture import models, report
from suture.certify import save_all
from suture.certify.promise import FILE as PROMISE
from suture.data import Dataset
from suture.data.npz import write_npz
from suture.engine import Engine, Inline, Recorded, Run
from suture.engine.share import MINUTES
from suture.evaluate import Evaluation, Plan, Record, Role, Subject, decisions, evaluate
from suture.evaluate.pictures import CleanPictures
from suture.repairs import Repair, RepairResult
from suture.rng import Stream
from suture.storage import atomic_file, write_json
from suture.types import Batch, LabelledImages, OnProgress

EXAMPLES = 8
KeepImages = Literal["none", "some", "all"]
_PIECE = 64


@dataclass(frozen=True, eq=False)
class PipelineResult:
    """What a run produced: the repair, all records, and the page."""

    result: RepairResult
    records: list[Record]
    page: Path


def harden(
    model: nn.Module,
    dataset: Dataset,
    method: Repair,
    plan: Plan,
    run: Run,
    *,
    n: int = 500,
    seed: int = 0,
    device: str = "cpu",
    engine: Engine | None = None,
    batch_size: int = 256,
    on_progress: OnProgress | None = None,
) -> PipelineResult:
    """Repair on training images, evaluate on ``n`` held-out images, write everything to the run.

    Finished pieces of the work are kept in the run: after a crash the same call on the reopened
    run (``Run.again``) goes on from there, and ends with the same result.
    """
    engine = recorded(engine, run)
    result = repair(
        model,
        dataset,
        method,
        run,
        seed=seed,
        engine=engine,
        batch_size=batch_size,
        on_progress=on_progress,
    )
    batch = dataset.test.select(torch.arange(len(dataset.test))[:n]).resident(device)
    subjects = [
        Subject(Role.UNDEFENDED, model, run.info["parts"].get("model", "model")),
        Subject(Role.DEFENDED, result.model, str(run.folder), repr(method)),
    ]
    records = assess(
        subjects,
        batch,
        plan,
        dataset,
        run,
        seed=seed,
        batch_size=batch_size,
        engine=engine,
        on_progress=on_progress,
    )
    run.finish()
    return PipelineResult(result, records, report.write(run.folder))


def recorded(engine: Engine | None, run: Run) -> Recorded:
    """The engine with the run's ledger: what is finished survives, and is not done again."""
    if isinstance(engine, Recorded):
        return engine
    return Recorded(engine or Inline(threads_per_item=None), run.ledger)


def repair(
    model: nn.Module,
    dataset: Dataset,
    method: Repair,
    run: Run,
    *,
    seed: int = 0,
    engine: Engine | None = None,
    batch_size: int = 256,
    on_progress: OnProgress | None = None,
    processes: int = 1,
    checkpoint_minutes: float = MINUTES,
) -> RepairResult:
    """Repair, and keep the repaired model and the trace among the run's artifacts."""
    run.note_parts(repair=repr(method), data=repr(dataset))
    result = method(
        model,
        dataset,
        generator=Stream(seed).child("repair"),
        engine=recorded(engine, run),
        batch_size=batch_size,
        on_progress=on_progress,
        processes=processes,
        checkpoint_minutes=checkpoint_minutes,
    )
    trace = {key: value for key, value in result.trace.items() if key not in result.artifacts}
    write_json(run.artifacts / "trace.json", trace | {"status": result.status.name.lower()})
    run.info["outcome"] = result.status.value
    promised = {} if result.promise is None else {PROMISE: result.promise.to_bytes()}
    models.save(result.model, run.artifacts / "model", beside=promised)
    save_all(result.certificates, run.artifacts / "certificates")
    for name, batch in result.images.items():
        _keep_images(run.artifacts / f"{name}.npz", batch)
    for name, artifact in result.artifacts.items():
        write_json(run.artifacts / f"{name}.json", artifact)
    return result


def _keep_images(path: Path, batch: Batch) -> None:
    """Images as a data set that ``--data`` opens, all of them test images."""
    images, labels = batch.images.cpu().numpy(), batch.labels.cpu().numpy()
    with atomic_file(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, x_test=images, y_test=labels)


def assess(
    subjects: list[Subject],
    batch: LabelledImages,
    plan: Plan,
    dataset: Dataset,
    run: Run,
    *,
    seed: int = 0,
    batch_size: int = 256,
    engine: Engine | None = None,
    on_progress: OnProgress | None = None,
    keep_images: KeepImages = "some",
) -> list[Record]:
    """Evaluate the subjects and keep records and example images in the run.

    Args:
        keep_images: what stays of the images: "none"; "some", the eight that the page shows; or
            "all", besides every image as the strongest attack left it, as data sets.
    """
    run.note_parts(evaluation=repr(plan), data=repr(dataset))
    evaluation = evaluate(
        subjects,
        batch,
        plan,
        data=dataset.source,
        seed=seed,
        batch_size=batch_size,
        engine=recorded(engine, run),
        on_row=on_progress,
    )
    run.write_records([record.to_dict() for record in evaluation.records])
    if keep_images != "none":
        _keep_examples(subjects, batch, evaluation, dataset, run)
    if keep_images == "all":
        for name, pictures in evaluation.strongest.items():
            path = run.artifacts / f"strongest-{name}.npz"
            write_npz(path, pictures.shape, pictures.split(_PIECE), batch.labels.cpu().numpy())
    return evaluation.records


def _keep_examples(
    subjects: list[Subject],
    batch: LabelledImages,
    evaluation: Evaluation,
    dataset: Dataset,
    run: Run,
) -> None:
    """A few clean and attacked images with what each model says, for the page's grid.

    Images that the attack turned come first: they are what a reader wants to see.
    """
    clean, attacked = CleanPictures(batch), evaluation.attacked
    first, last, stream = subjects[0].model, subjects[-1].model, Stream(0)
    before, after = decisions(first, clean, stream), decisions(first, attacked, stream)
    labels = batch.labels.to(batch.device)
    turned = (before == labels) & (after != labels)
    chosen = turned.long().argsort(descending=True, stable=True)[:EXAMPLES]
    names = np.array(dataset.class_names, dtype=str)
    tensors = {
        "clean": clean[chosen],
        "adversarial": attacked[chosen],
        "labels": labels[chosen],
        "predicted_clean": before[chosen],
        "predicted_adversarial": after[chosen],
        "predicted_defended": decisions(last, attacked, stream)[chosen],
    }
    with atomic_file(run.artifacts / "examples.npz") as path, path.open("wb") as file:
        arrays: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        np.savez_compressed(file, class_names=names, **arrays)
