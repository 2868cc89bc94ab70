"""The loop of adversarial training: epochs on attacked images, an average, and a judge.

A point to resume from is kept after every epoch, and after some minutes within one. All random
numbers are functions of the seed, the epoch and the step: a resumed training ends with the weights
of an unbroken one, and several processes draw what one would.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from suture.engine import Share
from suture.errors import ModelError
from suture.repairs.adversarial_training.averaging import Average
from suture.repairs.adversarial_training.judging import HeldOut, Judge
from suture.repairs.adversarial_training.progress import Epoch, Standing, copied
from suture.repairs.adversarial_training.steps import Steps
from suture.repairs.adversarial_training.suffix import Suffix
from suture.rng import Stream
from suture.training.weights import model_tensors, optimiser_tensors, restore_optimiser
from suture.types import LabelledImages

if TYPE_CHECKING:
    from suture.repairs.adversarial_training.method import AdversarialTraining

STAGE = "adversarial training"


def train_adversarially(
    method: AdversarialTraining,
    model: nn.Module,
    images: LabelledImages,
    judge: Judge,
    floor: float,
    epochs: int,
    stream: Stream,
    share: Share,
) -> dict[str, Any]:
    """One process' training of a copy of the model; where it stands in the end, as plain data."""
    device = share.device or images.device
    own = copy.deepcopy(model).to(device)  # processes share the memory of what they are given
    images, judge = images if share.device is None else images.to(device), judge.shared(share)
    return AdversarialLoop(method, own, images, judge, floor, epochs, stream, share).run().plain()


@dataclass
class AdversarialLoop:
    """A training run.

    Args:
        method: its settings, its attack and its loss.
        model: trained in place.
        images: clean ones to train on.
        judge: of the epochs.
        floor: clean accuracy that a judged epoch must keep, in [0, 1].
        epochs: passes over the images.
        stream: of all random numbers.
        share: this process' part; it has the point to go on from, and is told of others.
    """

    method: AdversarialTraining
    model: nn.Module
    images: LabelledImages
    judge: Judge
    floor: float
    epochs: int
    stream: Stream
    share: Share = field(default_factory=Share)

    def __post_init__(self) -> None:
        self.part: Suffix = self.method.part(self.model, self.images[:2].images)
        self.steps = Steps(self.method, self.part, self.images, self.stream, self.share)
        self.average = Average(self.model, self.method.average)
        self.progress = Standing()
        self.watched: float | None = None
        self.within = (0, 0.0, 0.0)
        """Steps of the epoch that are done, the sum of their losses, and seconds they took."""

    def run(self) -> Standing:
        """Train, from the share's point on.

        Raises:
            ModelError: a loss that is no longer a number.
        """
        self.progress.warm_up = int(self.method.warm_up * self.epochs)
        if self.share.point is not None:
            self._restore(self.share.point)
        while len(self.progress.epochs) < self.epochs and not self.progress.collapsed:
            self._epoch(len(self.progress.epochs) + 1)
            self.within = (0, 0.0, 0.0)
            self.share.keep(self._point())
        return self.progress

    def _epoch(self, epoch: int) -> None:
        began, before = time.perf_counter(), self.progress.seconds + self.within[2]
        loss = self._trained(epoch)
        self.model.eval()
        self._watch(epoch)
        judged = self._judged(epoch)
        row = Epoch(
            epoch=epoch,
            loss=loss,
            rate=float(self.steps.optimiser.param_groups[0]["lr"]),
            clean=None if judged is None else judged.clean,
            robust=None if judged is None else judged.robust,
            watched=self.watched,
            seconds=round(before + time.perf_counter() - began, 3),
        )
        self.progress.epochs.append(row)
        self.progress.offer(row, self.average.state, self.floor)
        if self.progress.collapsed and self.progress.best is None:
            self._judge_good()

    def _trained(self, epoch: int) -> float:
        """One pass; the mean loss."""
        device, pieces = self.images.device, self.steps.pieces(epoch)
        total, label = self.epochs * len(pieces), self._label(epoch)
        done, before, seconds = self.within
        sum_, began = torch.full((), before, device=device), time.perf_counter()
        single = epoch <= self.progress.warm_up
        own = [self.share.own(piece) for piece in pieces[done:]]
        for index, batch in enumerate(self.images.feed(own), done):
            at = (epoch - 1) * len(pieces) + index
            given = (batch, pieces[index])
            sum_ += self.steps.take(*given, epoch, index, at / total, single=single)
            self.average.update()
            self.share.tell(label, at + 1, total)
            if self.share.due and index + 1 < len(pieces):
                spent = seconds + time.perf_counter() - began
                self.within = (index + 1, float(sum_), spent)
                self.share.keep(self._point())
        loss = float(sum_) / len(pieces)
        if not math.isfinite(loss):
            raise _diverged(epoch, self.method.lr)
        return loss

    def _watch(self, epoch: int) -> None:
        """What PGD leaves of the weights after epochs with a single step.

        A collapse ends the training, or the warm-up: then it goes on from the last good weights.
        """
        progress, self.watched = self.progress, None
        if not (self.method.watched or epoch <= progress.warm_up):
            return
        most = max((row.watched or 0.0 for row in progress.epochs), default=0.0)
        self.watched = self.judge.watch(self.model)
        share = self.method.collapse if self.method.watched else self.method.dip
        if self.watched >= share * most:
            progress.good = copied(self.average.state)
            return
        progress.collapsed, progress.warm_up = self.method.watched, epoch
        if not self.method.watched and progress.good is not None:
            self.model.load_state_dict(progress.good)
            self.average.restore(progress.good, self.average.steps)

    def _judged(self, epoch: int) -> HeldOut | None:
        """Of the averaged weights, in the last epochs."""
        if self.progress.collapsed or epoch <= self.epochs - self.method.judged_epochs:
            return None
        return self.judge(self.averaged(self.average.state))

    def _judge_good(self) -> None:
        """After a collapse before any epoch was judged: the last good weights."""
        progress = self.progress
        assert progress.good is not None
        judged = self.judge(self.averaged(progress.good))
        progress.epochs[-2] = replace(progress.epochs[-2], **asdict(judged))
        progress.offer(progress.epochs[-2], progress.good, self.floor)

    def averaged(self, state: dict[str, Tensor]) -> nn.Module:
        """The model with these weights, in eval mode."""
        model = copy.deepcopy(self.model).eval()
        model.load_state_dict(state)
        return model

    def _label(self, epoch: int) -> str:
        text = f"{STAGE} {epoch}/{self.epochs}"
        if not self.progress.epochs:
            return text
        last = self.progress.epochs[-1]
        left = last.seconds / last.epoch * (self.epochs - last.epoch)
        text += f", {left:.0f} s left, loss {last.loss:.3f}"
        if last.robust is None or last.clean is None:
            return text
        return f"{text}, held out {100 * last.clean:.1f} / {100 * last.robust:.1f} %"

    def _point(self) -> dict[str, Any]:
        return {
            "progress": self.progress.plain(),
            "weights": model_tensors(self.model),
            "average": self.average.state,
            "average_steps": self.average.steps,
            "optimiser": optimiser_tensors(self.steps.optimiser),
            "within": list(self.within),
        }

    def _restore(self, point: dict[str, Any]) -> None:
        self.progress = Standing.of(point["progress"])
        self.model.load_state_dict(point["weights"])
        self.average.restore(point["average"], point["average_steps"])
        restore_optimiser(self.steps.optimiser, point["optimiser"])
        done, sum_, seconds = point["within"]
        self.within = (int(done), float(sum_), float(seconds))


def _diverged(epoch: int, lr: float) -> ModelError:
    return ModelError(
        expected="a finite training loss",
        got=f"none in epoch {epoch}",
        remedy=f"Lower the learning rate (it is {lr:g}), or clip gradients.",
    )
