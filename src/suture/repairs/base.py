"""What every repair shares: a protocol, a result, and an entry that believes nobody."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from torch import nn

from suture.attacks import Attack
from suture.data import Dataset, Split, images_of, load
from suture.data.given import Data
from suture.data.splits import permutation
from suture.engine import Crew, Engine
from suture.engine.share import MINUTES
from suture.errors import ArgumentError, ModelError
from suture.models import untouched
from suture.registry import Registry
from suture.repairs.context import Context
from suture.repairs.result import RepairResult
from suture.rng import Stream
from suture.types import (
    BEFORE,
    Batch,
    LabelledImages,
    OnProgress,
    RepairedModel,
    check_classes,
    remember,
)


@dataclass(frozen=True, eq=False)
class Seen:
    """Images that a method looks at.

    Attributes:
        split: of the data set.
        note: why it is not the training split, where it is not; a sentence for the user.
    """

    split: Split
    note: str = ""


REPAIRS: Registry[type[Repair]] = Registry(
    "repair method", "suture.repairs", "suture.repairs", also=("suture.auto",)
)
"""Name on the command line → method; others join by an entry point ``suture.repairs``."""


@dataclass(frozen=True, kw_only=True)
class Repair(ABC):
    """A repair method; its fields are its hyper-parameters, and its ``repr`` goes into records."""

    registry: ClassVar[Registry[type[Repair]]] = REPAIRS

    @final
    def __call__(
        self,
        model: nn.Module,
        data: LabelledImages | Dataset | Data,
        *,
        generator: torch.Generator | Stream | int | None = None,
        engine: Engine | None = None,
        batch_size: int = 256,
        on_progress: OnProgress | None = None,
        processes: int = 1,
        checkpoint_minutes: float = MINUTES,
    ) -> RepairResult:
        """Repair a copy of the model, and check by plain forwards that the result is usable.

        All of it happens in eval mode; afterwards the given model's modes are as they were, and
        the repaired one is in the given one's. ``suture.types.undefended_of`` tells the given one
        again.

        Args:
            model: classifier; not changed.
            data: training images and labels (the test set has no business here), or a data set,
                of which the method takes the images that it wants to see (``select``); or as
                ``suture.data.load`` takes it: ``(images, labels)``, a data loader, …. Up to a
                gigabyte is held as one tensor, more is decoded piece by piece.
            generator: seed or stream.
            engine: spreads work over processes or machines; ``None`` uses this process' threads.
            batch_size: images per forward; a matter of memory, not of results.
            on_progress: told about each stage.
            processes: how many train together, each on its share of every batch; of this machine,
                or of the cluster of an engine ``Ray``. Only methods that ``trains_together``.
            checkpoint_minutes: between two points to resume from, within an epoch.

        Raises:
            ArgumentError: several processes, for a method that has no training to share.
            ModelError: the model cannot classify the data, or the method returned a model that
                changes the number of classes or gives non-finite logits on the training images.
        """
        crew = Crew(processes, checkpoint_minutes)
        self.check_crew(crew)
        context = Context.of(generator, engine, batch_size, on_progress, crew)
        if isinstance(data, str | Path):
            data = load(data)
        if isinstance(data, Dataset):
            device = next((p.device for p in model.parameters()), torch.device("cpu"))
            data = self.select(data, context.stream.child("training images")).resident(device)
        data = images_of(data, split="train")
        with untouched(model):
            classes = _forward(model, data[:8], "the model to be repaired")
            result = self._repair(model, data, context)
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

    @property
    def trains_together(self) -> bool:
        """Whether several processes can share its training."""
        return False

    def check_crew(self, crew: Crew) -> None:
        """Raise ``ArgumentError`` for several processes where there is no training to share."""
        if crew.processes > 1 and not self.trains_together:
            name = Repair.registry.name_of(type(self)) or type(self).__name__
            raise ArgumentError(
                expected=f"--processes 1: {name} has no training that processes can share",
                got=f"--processes {crew.processes}",
                remedy="Its pieces are spread by --engine processes or ray.",
            )

    @abstractmethod
    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        """The method itself: repair a copy of the model, which is in eval mode.

        ``data`` may be more than memory holds: take what is needed with ``data[positions]``,
        ``data.split(size)`` or ``data.feed(pieces)``.
        """

    def seen(self, dataset: Dataset) -> Seen:
        """Which of a data set's images the method looks at: the training images."""
        return Seen(dataset.train)

    def select(self, dataset: Dataset, stream: Stream) -> Split:
        """Those images in their order; for methods that use a few, some drawn from all over."""
        split = self.seen(dataset).split
        if getattr(self, "samples", None):
            return split.select(permutation(len(split), stream)[:_DRAWN])
        return split

    def beside(self, folder: Path) -> Repair:
        """The method with what it finds in the folder of the model that it will repair."""
        return self

    @property
    def threat(self) -> dict[str, Any]:
        """What the repair is made against, for ``suture evaluate``: an attack's name and fields.

        Empty where it is nothing in particular.
        """
        attack, radius = getattr(self, "attack", None), getattr(self, "eps", 0.0)
        if isinstance(attack, Attack):
            return _told(attack)
        return {"norm": "linf", "eps": radius} if radius else {}


_DRAWN = 20_000
"""Training images that a method may choose from that says how many it uses."""


def repair(
    model: nn.Module,
    data: LabelledImages | Dataset | Data,
    method: Repair,
    *,
    generator: torch.Generator | Stream | int | None = None,
    engine: Engine | None = None,
    batch_size: int = 256,
    on_progress: OnProgress | None = None,
    processes: int = 1,
    checkpoint_minutes: float = MINUTES,
) -> RepairResult:
    """``method(model, data, ...)``."""
    return method(
        model,
        data,
        generator=generator,
        engine=engine,
        batch_size=batch_size,
        on_progress=on_progress,
        processes=processes,
        checkpoint_minutes=checkpoint_minutes,
    )


def check_processes(processes: int, batch: int, images: int) -> None:
    """Raise ``ArgumentError`` unless each process has at least two images of a batch."""
    most = max(1, min(batch, images) // 2)
    if processes > most:
        raise ArgumentError(
            expected=f"1 to {most} processes for batches of {batch} out of {images} images",
            got=f"--processes {processes}",
            remedy="Every process needs at least two images of each batch.",
        )


def _told(attack: Attack) -> dict[str, Any]:
    """Name, norm, radius, and the plain fields that are not the attack's own defaults."""
    eps = "inf" if math.isinf(attack.eps) else attack.eps
    name = Attack.registry.name_of(type(attack))
    own = {"attack": name, "norm": attack.norm, "eps": eps}
    for field_ in fields(attack):
        value = getattr(attack, field_.name)
        plain = isinstance(value, (bool, int, float, str))
        if plain and field_.name not in own and value != field_.default:
            own[field_.name] = value
    return own


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
