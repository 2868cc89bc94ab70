"""A5/P, PC and PRC: change the objects that a camera will see (section 3, Eq. 10 and 11)."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from suture.data import Dataset, batch_of
from suture.errors import ArgumentError, DataError
from suture.models import identity
from suture.repairs.a5.camera import Camera, acquired, in_8_bits, keys_of
from suture.repairs.a5.certifying import Vouched, vouched
from suture.repairs.a5.defence import Defence
from suture.repairs.a5.robustifier import Body, build_robustifier, defended
from suture.repairs.a5.robustifier_training import AT_ONCE, check_certificates
from suture.repairs.a5.trainees import Scene, SceneTrainee
from suture.repairs.base import REPAIRS, Repair, Seen
from suture.repairs.certified_training.method import (
    check_radius,
    status_of,
    trace_of,
    trained,
)
from suture.repairs.certified_training.schedule import Schedule
from suture.repairs.context import Context
from suture.repairs.result import RepairResult
from suture.rng import Stream
from suture.types import Batch, LabelledImages

Recipe = Literal["C", "P", "PC", "PRC"]
LEARNS: dict[str, tuple[str, ...]] = {
    "C": ("classifier",),
    "P": ("z",),
    "PC": ("z", "classifier"),
    "PRC": ("z", "robustifier", "classifier"),
}


@REPAIRS.add("a5-physical")
@dataclass(frozen=True, kw_only=True)
class A5Physical(Repair):
    """Robustify objects so that their pictures withstand attacks; the data are the objects.

    The acquisition is random, so certified error is a mean over acquisitions. The attacker sits
    between camera and classifier; attacks on the objects themselves are not covered. The result's
    ``images["robustified"]`` are the objects as they are to be made.

    Args:
        recipe: what is trained: "P" the objects, "PC" also the classifier, "PRC" also a
            robustifier behind the camera, "C" the classifier alone (the baseline).
        eps: ε_A, the L∞ radius of the attack on pictures; 0 for natural training ("C" alone).
        defence: ε_D and its norm, of the objects' change.
        camera: the acquisition.
        body: the robustifier of "PRC".
        schedule: how; an epoch shows every object ``draws`` times.
        draws: pictures of each object an epoch.
        judged: pictures of each object by which epochs are judged.
        gain: how much faster z learns than the weights: the optimisers here take steps of a size
            that fits weights, and δ_D(z) wants z of the size of 1.
        certificates: pictures whose certificates are made.
        grey: the objects' channels are equal and stay so: one change and one noise for all, as
            for the three channels that the authors' letter network reads. The attacker changes
            each channel by itself.

    Raises:
        ArgumentError: a value out of range.
    """

    recipe: Recipe = "PC"
    eps: float = 0.1
    defence: Defence = Defence()  # noqa: RUF009 - frozen
    camera: Camera = Camera()  # noqa: RUF009 - frozen
    body: Body = "mnist"
    schedule: Schedule = AT_ONCE
    draws: int = 100
    judged: int = 10
    gain: float = 30.0
    certificates: int = 20
    grey: bool = False

    def __post_init__(self) -> None:
        if self.eps or self.recipe != "C":
            check_radius("eps", self.eps)
        check_certificates(self.certificates)
        if self.recipe not in LEARNS or min(self.draws, self.judged, self.gain) <= 0:
            raise ArgumentError(
                expected=f"a recipe out of {', '.join(LEARNS)}, draws, judged and gain > 0",
                got=repr(self),
                remedy="See the documentation of A5Physical.",
            )

    def seen(self, dataset: Dataset) -> Seen:
        """All images: physical objects are all there are, none is held out."""
        objects = dataset.undivided()
        note = f"all {len(objects)} images are objects before the camera; pictures of them are "
        return Seen(objects, f"{note}judged")

    @property
    def trains_together(self) -> bool:
        """Processes share its batches."""
        return True

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        objects = batch_of(data)
        if self.grey and not bool((objects.images == objects.images[:, :1]).all()):
            raise DataError(
                expected="grey objects: all channels equal",
                got="objects with colours",
                remedy="Say grey=False.",
            )
        context = context.child("a5-p")
        stream = context.stream
        trainee = self.trainee(copy.deepcopy(model), objects, stream)
        work = f"{self!r} {stream.key} {identity(model, objects)}"
        pictures = _repeated(objects, self.draws), _repeated(objects, self.judged)
        found = trained(trainee, self.schedule, pictures, self.eps, self.recipe, context, work)
        scene = trainee.module
        made = self._vouched(trainee, objects, stream)
        result = scene.classifier
        if scene.robustifier is not None:
            result = defended(scene.robustifier, scene.classifier)
        result.train(model.training)
        facts: dict[str, Any] = {
            "recipe": self.recipe,
            "eps": self.eps,
            "defence": asdict(self.defence),
        }
        moved = Batch(trainee.objects(), objects.labels)
        tried = self.certificates if self.eps else 0
        facts |= trace_of(found) | {"certificates": {"made": len(made.certificates), "of": tried}}
        return RepairResult(
            result,
            status_of(found),
            facts,
            made.certificates,
            {"robustified": moved},
            promise=made.promise,
        )

    def trainee(self, model: nn.Module, data: Batch, stream: Stream) -> SceneTrainee:
        """Objects, camera and classifier, before training."""
        robustifier = None
        if "robustifier" in LEARNS[self.recipe]:
            # What follows the camera moves as far as the objects do.
            seed = stream.child("weights").key
            robustifier = build_robustifier(self.body, data.shape, self.defence, seed=seed)
            robustifier = robustifier.to(data.device)
        free = data.images[:, :1] if self.grey else data.images
        scene = Scene(torch.zeros_like(free), robustifier, model)
        learns = LEARNS[self.recipe]
        return SceneTrainee(
            scene,
            data,
            self.defence,
            self.camera,
            self.eps,
            learns,
            self.gain,
            self.schedule.fusion,
            grey=self.grey,
        )

    def _vouched(self, trainee: SceneTrainee, data: Batch, stream: Stream) -> Vouched:
        if not self.certificates or not self.eps:
            return Vouched()
        which = torch.arange(self.certificates) % len(data)
        seen = trainee.acquired(which, stream.child("certificates"))
        batch = Batch(seen, data.labels[which])
        return vouched(trainee.module.classifier, batch, self.eps, repair=f"A5/{self.recipe}")


def acquisitions(
    objects: Batch, camera: Camera, count: int, stream: Stream, *, grey: bool = False
) -> tuple[Tensor, Tensor]:
    """``count`` pictures of each object as stored, with their labels, by keys of their own."""
    many = _repeated(objects, count)
    seen = acquired(many.images, camera, keys_of(len(many), stream), grey=grey)
    return in_8_bits(seen), many.labels


def _repeated(data: Batch, count: int) -> Batch:
    return Batch(data.images.repeat(count, 1, 1, 1), data.labels.repeat(count))
