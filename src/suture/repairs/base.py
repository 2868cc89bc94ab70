"""What every repair shares: a protocol, a result, and an entry that believes nobody."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

import torch
from torch import nn

from suture.engine import Engine
from suture.errors import ModelError
from suture.models import untouched
from suture.registry import Registry
from suture.rng import Stream, as_stream
from suture.types import BEFORE, Batch, RepairedModel, check_classes, remember

OnProgress = Callable[[str, int, int], None]
"""Called as ``on_progress(stage, finished, total)``."""


class Status(Enum):
    """How a repair ended: a sentence, with a remedy where one is needed."""

    REPAIRED = "The model was repaired."
    PARTLY = (
        "Some of the given inputs are repaired, not all. More training data, a longer search or "
        "another method may repair the rest."
    )
    UNCHANGED = (
        "No change was found that helps; the model is as it was. Give it a stronger method, more "
        "data, or inputs that the attack does fool."
    )
    INFEASIBLE = "No change of the allowed kind can repair the inputs. Allow a larger change."
    TUNED = (
        "The model was tuned within the limit of lost accuracy; held-out images say that it is "
        "better at what it was tuned for. Only attacks on it say what that is worth."
    )
    BEYOND_LIMIT = (
        "No setting keeps the accuracy within the limit; the model is as it was. Allow more points "
        "to be lost, try lower learning rates, or give more images."
    )
    OUT_OF_TIME = "Time ran out; the best found so far is kept. Raise the time limit."


@dataclass(frozen=True, eq=False)
class RepairResult:
    """What a repair gives back.

    Attributes:
        model: the repaired classifier; works wherever the original did.
        status: how it ended.
        trace: what happened on the way, ready for JSON.
        certificates: claims about regions that can be checked again; empty if nothing is proved.
        images: labelled images that belong to the result, by name: what A5/O has robustified.
    """

    model: nn.Module
    status: Status
    trace: dict[str, Any] = field(default_factory=dict)
    certificates: tuple[Any, ...] = ()
    images: Mapping[str, Batch] = field(default_factory=dict)


REPAIRS: Registry[type[Repair]] = Registry("repair method", "suture.repairs", "suture.repairs")
"""Name on the command line → method; others join by an entry point ``suture.repairs``."""


@dataclass(frozen=True, kw_only=True)
class Repair(ABC):
    """A repair method; its fields are its hyper-parameters, and its ``repr`` goes into records."""

    registry: ClassVar[Registry[type[Repair]]] = REPAIRS

    @abstractmethod
    def run(
        self,
        model: nn.Module,
        data: Batch,
        *,
        generator: torch.Generator | Stream | int | None = None,
        engine: Engine | None = None,
        batch_size: int = 256,
        on_progress: OnProgress | None = None,
    ) -> RepairResult:
        """Repair a copy of the model; the given one is not changed.

        Args:
            model: classifier.
            data: training images and labels; the test set has no business here.
            generator: seed or stream.
            engine: spreads work over processes or machines; ``None`` uses this process' threads.
            batch_size: images per forward; a matter of memory, not of results.
            on_progress: told about each stage.
        """


def repair(
    model: nn.Module,
    data: Batch,
    method: Repair,
    *,
    generator: torch.Generator | Stream | int | None = None,
    engine: Engine | None = None,
    batch_size: int = 256,
    on_progress: OnProgress | None = None,
) -> RepairResult:
    """Validate, run the method, and check by plain forward passes that its result is usable.

    All of it happens in eval mode; afterwards the given model's modes are as they were, and the
    repaired one is in the given one's. ``suture.types.undefended_of`` tells the given one again.

    Raises:
        ModelError: the model cannot classify the data, or the method returned a model that
            changes the number of classes or gives non-finite logits on the training images.
    """
    with untouched(model):
        classes = _forward(model, data[:8], "the model to be repaired")
        result = method.run(
            model,
            data,
            generator=as_stream(generator),
            engine=engine,
            batch_size=batch_size,
            on_progress=on_progress,
        )
        with untouched(result.model):
            repaired = _forward(result.model, data[:256], "the repaired model")
        if repaired != classes:
            raise ModelError(
                expected=f"a repaired model with {classes} classes, like the original",
                got=f"{repaired} classes",
                remedy="This is a defect of the repair method: please report it.",
            )
        _remember(result.model, model, data[:64])
    result.model.train(model.training)
    return result


def _remember(repaired: nn.Module, given: nn.Module, few: Batch) -> None:
    """Hang a copy of the given model on the repaired one, unless that holds it itself."""
    if isinstance(repaired, RepairedModel):
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            own = repaired.undefended()(few.images)
            torch.manual_seed(0)
            if torch.allclose(own, given(few.images), rtol=1e-4, atol=1e-5):
                return
    before = copy.deepcopy(given)
    before.__dict__.pop(BEFORE, None)
    remember(repaired, before)


def _forward(model: nn.Module, batch: Batch, what: str) -> int:
    """Number of classes, after one forward that must give finite ``(n, classes)`` logits."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        logits = model(batch.images)
    if logits.ndim != 2 or not bool(torch.isfinite(logits).all()):
        raise ModelError(
            expected=f"finite logits (n, classes) from {what}",
            got=f"shape {tuple(logits.shape)} with NaN or infinite values or another rank",
            remedy="Check weights and input normalisation.",
        )
    check_classes(batch.labels, logits.shape[1])
    return int(logits.shape[1])
