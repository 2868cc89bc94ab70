"""``suture train``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import typer

from suture import models
from suture.cli.common import (
    Bars,
    Data,
    Device,
    Force,
    Json,
    Out,
    Seed,
    Size,
    check_device,
    default_out,
    emit,
    open_data,
    timed,
)
from suture.cli.engines import begin, resumed
from suture.cli.fields import Settings, fields_of
from suture.cli.options import Spreading, TrainingTogether, grouped
from suture.engine import Run
from suture.engine.threads import use_fitting_threads
from suture.errors import ArgumentError
from suture.evaluate import decisions
from suture.evaluate.metrics import clopper_pearson
from suture.rng import Stream
from suture.settings import assignments, made
from suture.training import History, Progress, Retention, TrainConfig, train

PATIENCE = 5
"""Epochs without progress after which the command stops, unless it is told otherwise."""

Command = fields_of(training=TrainConfig)


@dataclass(frozen=True)
class Remembering:
    """Which epochs the history has."""

    panel: ClassVar[str] = "The history"
    history: Annotated[bool, typer.Option(help="Keep every epoch's weights (DARE needs them).")] = (
        True
    )
    keep_every: Annotated[
        int, typer.Option("--keep-every", help="Remember every so many epochs only.", min=1)
    ] = 1
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", help="Of those, the last so many.", min=1)
    ] = None
    keep_mb: Annotated[
        float | None,
        typer.Option("--keep-mb", help="The oldest go where the history takes more (10⁶ bytes)."),
    ] = None

    @property
    def retention(self) -> Retention:
        """As a rule."""
        return Retention(self.keep_every, self.keep_last, self.keep_mb)


@grouped
def command(
    arch: Annotated[str, typer.Argument(help="An architecture's name, timm:NAME, …")],
    data: Data,
    size: Size = None,
    out: Out = None,
    force: Force = False,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: Json = False,
    *,
    remembering: Remembering,
    together: TrainingTogether,
    spreading: Spreading,
) -> None:
    """Train a classifier and keep its history, an epoch at a time.

    Example: suture train cnn --data mnist --epochs 5 --out runs/cnn
    """
    _check_engine(spreading, together)
    dataset = open_data(data, size)
    dataset.train.batch(1)  # says what is missing before anything is begun
    config = _config(settings, PATIENCE if len(dataset.validation) else 0)
    statistics: dict[str, Any] = {}
    if arch in models.architectures():
        statistics = {"mean": dataset.mean, "std": dataset.std, "seed": seed}
    model = models.load(arch, in_shape=dataset.in_shape, classes=dataset.classes, **statistics)
    use_fitting_threads(model, dataset.in_shape)
    run = _opened(resume, out, force, title=f"{arch} trained on {data}", seed=seed)
    run.note_parts(model=arch, data=repr(dataset), training=repr(config))
    checkpoints = run.folder / "checkpoints" if remembering.history else None
    with run, spreading.start() as spread, timed() as clock, Bars() as bars:
        result = train(
            model,
            dataset,
            config=config,
            seed=seed,
            history=checkpoints,
            device=check_device(device),
            on_progress=partial(_tell, bars),
            **together.how,
            engine=spread,
            retention=remembering.retention,
            resume=checkpoints is not None and (resume or resumed() is not None),
        )
    models.save(result.model.cpu(), run.artifacts / "model")
    run.info["curves"] = [dataclasses.asdict(curve) for curve in result.curves]
    facts = {
        "model": str(run.folder),
        "epochs": len(result.curves),
        "returned_epoch": result.returned_epoch,
        "history": str(checkpoints) if checkpoints else None,
        **_remembered(checkpoints),
        "seconds": clock["seconds"],
        **_accuracy(result.model, dataset),
    }
    run.finish()
    emit(as_json, facts, _text(facts))


def _check_engine(spreading: Spreading, together: TrainingTogether) -> None:
    """One training has no pieces: an engine is of use where its processes train together."""
    if spreading.engine == "inline" or (spreading.engine == "ray" and together.processes > 1):
        return
    raise ArgumentError(
        expected="--engine ray with --processes 2 or more, or none",
        got=f"--engine {spreading.engine} --processes {together.processes}",
        remedy="On this machine --processes alone is enough.",
    )


def _tell(bars: Bars, at: Progress) -> None:
    note = f"epoch {at.epoch}/{at.epochs}, loss {at.loss:.3f}"
    done = (at.epoch - 1) * at.batches + at.batch
    bars("training", done, at.epochs * at.batches, note)


def _remembered(folder: Path | None) -> dict[str, Any]:
    """How many epochs the history has, and what they take."""
    if folder is None:
        return {}
    history = History.open(folder)
    return {"history_epochs": len(history.epochs), "history_mb": round(history.size / 1e6, 2)}


def _config(settings: list[str] | None, patience: int) -> TrainConfig:
    """As the settings say; without validation images nothing can be waited for."""
    given: dict[str, Any] = {"patience": patience} | assignments(settings or [])
    return made(TrainConfig, given | ({} if patience else {"patience": 0}), "training")


def _opened(resume: bool, out: Path | None, force: bool, **facts: Any) -> Run:
    """A new run, or the one in ``--out`` to go on with."""
    if resume and resumed() is None:
        return Run.open(default_out("train", out), lock=True)
    return begin("train", out=out, force=force, **facts)


def _accuracy(model: torch.nn.Module, dataset: Any) -> dict[str, Any]:
    """Test accuracy with counts and interval, in percent."""
    if len(dataset.test) == 0:
        return {"test_accuracy": None}
    right = n = 0
    for batch in dataset.test.batches(2048):
        right += int((decisions(model, batch.images, Stream(0)) == batch.labels).sum())
        n += len(batch)
    low, high = clopper_pearson(right, n)
    return {
        "test_accuracy": 100.0 * right / n,
        "test_interval": [100.0 * low, 100.0 * high],
        "test_right": right,
        "test_n": n,
    }


def _text(facts: dict[str, Any]) -> str:
    accuracy = "no test images"
    if facts["test_accuracy"] is not None:
        low, high = facts["test_interval"]
        accuracy = (
            f"test accuracy {facts['test_accuracy']:.2f} % "
            f"({facts['test_right']}/{facts['test_n']}, 95 % {low:.2f}–{high:.2f})"
        )
    lines = [
        f"{accuracy}; epoch {facts['returned_epoch']} of {facts['epochs']}, "
        f"{facts['seconds']:.1f} s"
    ]
    if facts["history"]:
        lines.append(
            f"history: {facts['history_epochs']} of {facts['epochs']} epochs, "
            f"{facts['history_mb']:.1f} MB; `suture history {facts['model']}` shows what they know"
        )
    return "\n".join([*lines, f"model: {facts['model']}"])
