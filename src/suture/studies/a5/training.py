"""The networks of the A5 studies, each trained once a process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import nn

from suture import data, models
from suture.data import Dataset
from suture.repairs import A5CoTraining, A5Robustifier, CrownIBP, Repair
from suture.repairs.a5 import Defence
from suture.rng import Stream
from suture.types import Batch

if TYPE_CHECKING:
    from suture.studies.a5.cells import A5Mnist


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
    return dataset(study.data).train.batch(study.train, shuffle_stream=Stream(0).child("training"))


@cache
def classifier(study: A5Mnist, eps: float) -> Made:
    """CROWN-IBP training with ε_A^C = eps."""
    source = dataset(study.data)
    fresh = models.build(
        study.network,
        in_shape=source.in_shape,
        classes=source.classes,
        mean=source.mean,
        std=source.std,
        seed=0,
    )
    return made(CrownIBP(eps=eps, schedule=study.schedule("CROWN-IBP")), fresh, training(study))


@cache
def robustified(study: A5Mnist, recipe: str, eps: float, eps_d: float) -> Made:
    """A5/R for that classifier, or A5/RC from A5/R."""
    kind = A5Robustifier if recipe == "R" else A5CoTraining
    method = kind(
        eps=eps,
        defence=Defence(eps_d),
        body=study.body,
        schedule=study.schedule(recipe),
        certificates=0,
    )
    before = classifier(study, eps) if recipe == "R" else robustified(study, "R", eps, eps_d)
    return made(method, before.model, training(study))


def made(method: Repair, model: nn.Module, data: Batch) -> Made:
    """The method's result on this model, timed."""
    started = time.perf_counter()
    result = method(model, data, generator=0)
    spent = time.perf_counter() - started
    return Made(result.model.eval(), repr(method), result.trace, spent, result.images)
