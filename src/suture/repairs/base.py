"""What every repair shares: a protocol, a result, and an entry that believes nobody."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, TypeVar, final

import torch
from torch import nn

from suture import notebook
from suture.attacks import Attack
from suture.certify.promise import Promise
from suture.data import Dataset, Split, images_of, load
from suture.data.given import Data
from suture.data.splits import permutation
from suture.engine import Crew, Engine, Inline, Points
from suture.engine.share import MINUTES, Body
from suture.errors import ArgumentError, ModelError
from suture.models import identity, untouched
from suture.registry import Registry
from suture.rng import Stream, as_stream
from suture.types import (
    BEFORE,
    Batch,
    LabelledImages,
    OnProgress,
    RepairedModel,
    check_classes,
    remember,
    untold,
)


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
    COLLAPSED = (
        "Training collapsed: it learned the single step and not the attack (catastrophic "
        "overfitting). What is given back is from before. Use more inner steps, more noise, or a "
        "lower learning rate."
    )
    SMOOTHED = (
        "The model answers by vote over noisy copies of the image now. What that proves of each "
        "image is counted by suture certify."
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
        promise: what was to be proved, whether it is or not; ``None`` where that is nothing fixed.
        images: labelled images that belong to the result, by name: what A5/O has robustified.
        artifacts: what else is worth keeping, by name, ready for JSON: a file each.
    """

    model: nn.Module
    status: Status
    trace: dict[str, Any] = field(default_factory=dict)
    certificates: tuple[Any, ...] = ()
    images: Mapping[str, Batch] = field(default_factory=dict)
    artifacts: Mapping[str, Any] = field(default_factory=dict)
    promise: Promise | None = None

    def _repr_html_(self) -> str:
        """For notebooks: how it ended, and what there is."""
        rows: dict[str, object] = {"status": self.status.value, "model": type(self.model).__name__}
        told = {key: self.trace[key] for key in ("samples", "adversarial") if key in self.trace}
        rows |= {f"{key} images": count for key, count in told.items()}
        rows |= {"certificates": len(self.certificates)} if self.certificates else {}
        rows |= {f"images: {name}": len(batch) for name, batch in self.images.items()}
        return notebook.facts("repair", rows)


@dataclass(frozen=True, eq=False)
class Seen:
    """Images that a method looks at.

    Attributes:
        split: of the data set.
        note: why it is not the training split, where it is not; a sentence for the user.
    """

    split: Split
    note: str = ""


Sent = TypeVar("Sent", nn.Module, LabelledImages)


@dataclass(frozen=True, eq=False)
class Context:
    """What a repair works with.

    Attributes:
        stream: of all its random numbers.
        engine: gets the work in pieces.
        batch_size: images per forward; a matter of memory, not of results.
        tell: told about each stage.
        crew: the processes that share a training.
    """

    stream: Stream
    engine: Engine
    batch_size: int
    tell: OnProgress
    crew: Crew = Crew()  # noqa: RUF009 - frozen

    @staticmethod
    def of(
        generator: torch.Generator | Stream | int | None = None,
        engine: Engine | None = None,
        batch_size: int = 256,
        on_progress: OnProgress | None = None,
        crew: Crew = Crew(),  # noqa: B008 - frozen
    ) -> Context:
        """With the defaults for what is ``None``: seed 0, this process' threads, silence."""
        return Context(
            stream=as_stream(generator),
            engine=engine or Inline(threads_per_item=None),
            batch_size=batch_size,
            tell=on_progress or untold,
            crew=crew,
        )

    def child(self, name: str) -> Context:
        """The same with the sub-stream of that name."""
        return replace(self, stream=self.stream.child(name))

    def run(self, method: Repair, model: nn.Module, data: LabelledImages) -> RepairResult:
        """Another method, with all of this."""
        return method(
            model,
            data,
            generator=self.stream,
            engine=self.engine,
            batch_size=self.batch_size,
            on_progress=self.tell,
            processes=self.crew.processes if method.trains_together else 1,
            checkpoint_minutes=self.crew.minutes,
        )

    def trained(self, body: Body, stage: str, work: str, device: torch.device) -> Any:
        """``body(share)`` in each of the crew's processes: what the first one made, plain data.

        It goes on from the last point that a run has kept of this work.

        Args:
            body: can be sent to another process; what it holds is on the CPU where there are
                several (``sent``).
            stage: names the training; unique within the method.
            work: says what is trained, on what, from which weights.
            device: of the model and the images here.
        """
        points = Points(self.engine, stage, work)
        return self.engine.together(
            body,
            self.crew,
            device=str(device),
            point=points.last,
            tell=self.tell,
            keep=points.keep,
        )

    def sent(self, given: Sent) -> Sent:
        """The model or images as they go to the crew: on the CPU for other processes."""
        if self.crew.processes == 1:
            return given
        if isinstance(given, nn.Module):
            return copy.deepcopy(given).to("cpu")
        return given.to("cpu")

    def work(self, method: object, model: nn.Module, data: LabelledImages) -> str:
        """Names the work, so that pieces that a run has kept are found again."""
        return f"{method!r} {self.stream.key} {self.batch_size} {identity(model, data)}"


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
