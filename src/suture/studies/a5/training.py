"""The networks of the A5 studies, each trained once a run."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import nn

from suture import data, models
from suture.data import Dataset
from suture.engine import Engine, telling
from suture.models import identity
from suture.repairs import (
    A5CoTraining,
    A5Robustifier,
    Context,
    CrownIBP,
    Repair,
    RepairResult,
)
from suture.repairs.a5 import Defence
from suture.repairs.certified_training.method import (
    ClassifierTrainee,
    run_training,
    status_of,
    trace_of,
)
from suture.repairs.certified_training.schedule import Schedule
from suture.rng import Stream
from suture.studies import shelf
from suture.studies.networks import here
from suture.types import Batch, LabelledImages

if TYPE_CHECKING:
    from suture.studies.a5.cells import A5Mnist
    from suture.studies.a5.radii import Radii


@dataclass(frozen=True, eq=False)
class Made:
    """A trained model with what its training left behind."""

    model: nn.Module
    method: str
    trace: dict[str, Any]
    seconds: float
    images: Mapping[str, Batch] = field(default_factory=dict)


@cache
def dataset(name: str) -> Dataset:
    """A data set, read once."""
    return data.load(name)


@cache
def training(study: A5Mnist) -> Batch:
    """The training images, drawn by a fixed seed."""
    train = dataset(study.data).train
    return here(train.batch(study.trained_on, shuffle_stream=Stream(0).child("training")))


@cache
def classifier(study: A5Mnist, eps: float) -> Made:
    """CROWN-IBP training with ε_A^C = eps; natural training by the same schedule with 0."""
    source = dataset(study.data)
    fresh = models.build(
        study.network,
        in_shape=source.in_shape,
        classes=source.classes,
        mean=source.mean,
        std=source.std,
        seed=study.training,
    )
    schedule = study.schedule("CROWN-IBP")
    method = CrownIBP(eps=study.trained_for(eps), schedule=schedule) if eps else Natural(schedule)
    return made(method, here(fresh), training(study), study.training)


@cache
def robustified(study: A5Mnist, recipe: str, radii: Radii) -> Made:
    """A5/R for that classifier, or A5/RC from A5/R."""
    kind = A5Robustifier if recipe == "R" else A5CoTraining
    method = kind(
        eps=radii.robustifier,
        defence=Defence(radii.defence or 0.0),
        body=study.body,
        schedule=study.schedule(recipe),
        certificates=0,
    )
    before = (
        classifier(study, radii.classifier) if recipe == "R" else robustified(study, "R", radii)
    )
    return made(method, before.model, training(study), study.training)


@dataclass(frozen=True)
class Natural(Repair):
    """Training without attacks, by a schedule of certified training: ε_A^C = 0.

    Args:
        schedule: its radii do not matter.
    """

    schedule: Schedule

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        trained = copy.deepcopy(model)
        trainee = ClassifierTrainee(trained, data.shape, 0.0)
        work = context.work(self, model, data)
        context = context.child("natural")
        found = run_training(trainee, data, self.schedule, 0.0, "training", context, work)
        return RepairResult(trained, status_of(found), trace_of(found))


def made(method: Repair, model: nn.Module, data: Batch, seed: int = 0) -> Made:
    """The method's result on this model, timed; what another cell has trained is found again."""
    with shelf.shared(f"{method!r} {identity(model, data)}") as engine:
        watch = _StopWatch(engine, repr(method))
        result = method(model, data, generator=seed, engine=engine, on_progress=watch)
        spent = watch.stopped()
    return Made(result.model.eval(), repr(method), result.trace, spent, result.images)


class _StopWatch:
    """Seconds of a training that may be stopped and resumed; tells how far it is.

    Args:
        engine: keeps them with the training's other pieces.
        work: names the training.
    """

    def __init__(self, engine: Engine, work: str) -> None:
        self._engine, self._work = engine, work
        self._whole: float | None = engine.recall("seconds", work)
        self._before: float = engine.recall("seconds so far", work) or 0.0
        self._started = self._noted = time.perf_counter()

    def __call__(self, stage: str, done: int, total: int) -> None:
        telling.tell(stage, done, total)
        now = time.perf_counter()
        if now - self._noted > _NOTED_EVERY:
            self._noted = now
            self._engine.note("seconds so far", self._so_far, work=self._work)

    @property
    def _so_far(self) -> float:
        return self._before + time.perf_counter() - self._started

    def stopped(self) -> float:
        """All of them, earlier sessions' included."""
        if self._whole is None:
            self._whole, so_far = self._so_far, "seconds so far"
            self._engine.note("seconds", self._whole, work=self._work, instead_of=so_far)
        return self._whole


_NOTED_EVERY = 10.0
"""Seconds of a training that a kill may leave uncounted."""
