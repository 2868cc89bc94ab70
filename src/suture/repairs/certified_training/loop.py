"""Certified training of anything: a classifier, a robustifier, letters, or several of them.

One loop for CROWN-IBP training and for all recipes of A5. What is trained is a ``Trainee``; the
loop knows radii, batches, learning rates, checkpoints, and which epoch was best.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from suture.data.splits import permutation
from suture.engine import Share
from suture.errors import ModelError
from suture.repairs.certified_training.curves import Curve, Errors, Trained, best_of
from suture.repairs.certified_training.schedule import Schedule
from suture.repairs.certified_training.trainee import Sample, Trainee
from suture.rng import Stream
from suture.training.augment import augmented
from suture.training.weights import model_tensors, optimiser_tensors, restore_optimiser
from suture.types import Batch, LabelledImages


def train_certified(
    trainee: Trainee,
    schedule: Schedule,
    train: LabelledImages,
    validation: LabelledImages,
    stream: Stream,
    eps: float,
    stage: str,
    from_start: bool,
    share: Share,
) -> dict[str, Any]:
    """One process' training: the best weights and how it went, as plain data.

    Alone it trains what it is given; one process of several trains a copy.
    """
    if share.device is not None:
        # Processes share the memory of what they are given.
        trainee = copy.deepcopy(trainee).to(share.device)
        train, validation = train.to(share.device), validation.to(share.device)
    loop = Loop(trainee, schedule, train, validation, stream, eps, stage, from_start, share)
    found = loop.run()
    curves = [asdict(curve) for curve in found.curves]
    weights = model_tensors(trainee.module)
    return {"weights": weights, "curves": curves, "best": found.best_epoch, "start": found.start}


@dataclass
class Loop:
    """A training run, resumable after every epoch, and after some minutes within one.

    Args:
        trainee: trained in place.
        schedule: how.
        train, validation: images and labels.
        stream: of the run.
        eps: the full radius, for the progress report.
        stage: what to call it in the progress report.
        from_start: whether the weights that training begins with may be the best.
        share: this process' part; it has the point to go on from, and is told of others.
    """

    trainee: Trainee
    schedule: Schedule
    train: LabelledImages
    validation: LabelledImages
    stream: Stream
    eps: float
    stage: str
    from_start: bool = False
    share: Share = field(default_factory=Share)

    def run(self) -> Trained:
        """Train, from the share's point on.

        Raises:
            ModelError: a loss that is no longer a number.
        """
        self.optimiser = _optimiser(self.trainee.parameters(), self.schedule)
        self.curves: tuple[Curve, ...] = ()
        self.best = model_tensors(self.trainee.module)
        self.within = _AT_START
        self.trainee.module.eval()  # batch norm and dropout as bounds read them
        self.start = self._validated() if self.from_start else None
        if self.share.point is not None:
            self._restore(self.share.point)
        for epoch in range(len(self.curves) + 1, self.schedule.epochs + 1):
            self._epoch(epoch)
            if self._best_epoch() == epoch:
                self.best = model_tensors(self.trainee.module)
            self.within = _AT_START
            self.share.keep(self._point())
        self.trainee.module.load_state_dict(self.best)
        return Trained(self.curves, self._best_epoch(), self.start)

    def _best_epoch(self) -> int:
        return best_of(self.curves, self.schedule.ramp, self.start)

    def _epoch(self, epoch: int) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate(epoch)
        pieces = self._pieces(epoch)
        label = self._label(epoch)
        done, *before = self.within
        device = self.train.device
        sums = torch.tensor(before, dtype=torch.float64, device=device)
        own = [self.share.own(piece) for piece in pieces[done:]]
        for index, batch in enumerate(self.train.feed(own), done):
            share = self.schedule.ramp.share(epoch, index / len(pieces))
            # Summed where they are: a step that asks for a number would wait for the device.
            sums += self._step(batch, pieces[index], share, epoch, index)
            at = (epoch - 1) * len(pieces) + index + 1
            self.share.tell(label, at, self.schedule.epochs * len(pieces))
            if self.share.due and index + 1 < len(pieces):
                self.within = (index + 1, *sums.tolist())
                self.share.keep(self._point())
        loss, clean, certified = (sums / sum(map(len, pieces))).tolist()
        if not math.isfinite(loss):
            raise _diverged(epoch, self.schedule)
        errors = self._validated()
        share = self.schedule.ramp.share(epoch, (len(pieces) - 1) / len(pieces))
        curve = Curve(epoch, share, loss, clean, certified, *errors)
        self.curves = (*self.curves, curve)

    def _pieces(self, epoch: int) -> list[Tensor]:
        """Positions of each batch; in none of them a process has nothing to do."""
        order = permutation(len(self.train), self.stream.child("order").child(epoch))
        pieces = list(order.split(self.schedule.batch_size))
        few = len(pieces) > 1 and len(pieces[-1]) < self.share.world
        return pieces[:-1] if few else pieces

    def _step(self, batch: Batch, piece: Tensor, share: float, epoch: int, index: int) -> Tensor:
        """One step on the own images of a batch; float64 ``(3,)`` on the device: the sum of the
        whole batch's losses, and how many of its images were not right, and not certified."""
        sample = self._sample(batch, piece, epoch)
        crown = 1.0 - share if self.schedule.crown else 0.0
        stream = self.stream.child("draws").child(epoch).child(index)
        judged = self.trainee.loss(sample, share, crown, stream)
        own, parameters = len(sample.labels), self.trainee.parameters()
        found = torch.autograd.grad(judged.loss, parameters, allow_unused=True)
        for parameter, gradient in zip(
            parameters, self.share.mean(found, own, len(piece)), strict=True
        ):
            parameter.grad = gradient
        if self.schedule.clip:
            nn.utils.clip_grad_norm_(parameters, self.schedule.clip)
        self.optimiser.step()
        wrong = (~judged.right).sum(), (~judged.certified).sum()
        told = judged.loss.detach().double() * own, *(count.double() for count in wrong)
        return self.share.summed(torch.stack(told))

    def _sample(self, batch: Batch, piece: Tensor, epoch: int) -> Sample:
        """The process' own images of a batch, augmented by their positions."""
        rows = self.share.own(torch.arange(len(piece)))
        draws = self.stream.child("augment").child(epoch)
        images = augmented(batch.images, piece[rows], self.schedule.augment, draws)
        return Sample(images, batch.labels, piece[rows], rows)

    @torch.no_grad()
    def _validated(self) -> Errors:
        wrong = torch.zeros(2, device=self.validation.device)
        for index, piece in enumerate(torch.arange(len(self.validation)).split(500)):
            # The same draws after every epoch, so that epochs can be compared.
            stream = self.stream.child("validation").child(index)
            rows = self.share.own(torch.arange(len(piece)))
            if len(rows):
                own = self.validation[piece[rows]]
                sample = Sample(own.images, own.labels, piece[rows], rows)
                right, held = self.trainee.judge(sample, stream)
                wrong += torch.stack([(~right).sum(), (~held).sum()])
        clean, certified = (self.share.summed(wrong) / len(self.validation)).tolist()
        return clean, certified

    def _label(self, epoch: int) -> str:
        share = self.schedule.ramp.share(epoch, 0.999)
        text = f"{self.stage} {epoch}/{self.schedule.epochs}, eps {share * self.eps:.3f}"
        if not self.curves:
            return text
        last = self.curves[-1]
        errors = last.validation_clean_error, last.validation_certified_error
        told = " / ".join(f"{100 * error:.2f} %" for error in errors)
        return f"{text}, loss {last.loss:.3f}, clean / certified error {told}"

    def _point(self) -> dict[str, Any]:
        return {
            "curves": [asdict(curve) for curve in self.curves],
            "weights": model_tensors(self.trainee.module),
            "best": self.best,
            "optimiser": optimiser_tensors(self.optimiser),
            "within": list(self.within),
        }

    def _restore(self, point: dict[str, Any]) -> None:
        self.curves = tuple(Curve(**curve) for curve in point["curves"])
        self.best = point["best"]
        self.trainee.module.load_state_dict(point["weights"])
        restore_optimiser(self.optimiser, point["optimiser"])
        done, loss, clean, certified = point["within"]
        self.within = (int(done), float(loss), float(clean), float(certified))


_AT_START = (0, 0.0, 0.0, 0.0)
"""Batches of an epoch that are done; sums of loss, and of images not right and not certified."""


def _optimiser(parameters: list[nn.Parameter], schedule: Schedule) -> torch.optim.Optimizer:
    if schedule.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=schedule.lr)
    return torch.optim.RMSprop(parameters, lr=schedule.lr)


def _diverged(epoch: int, schedule: Schedule) -> ModelError:
    return ModelError(
        expected="a finite loss",
        got=f"none in epoch {epoch}",
        remedy=f"Lower the learning rate (it is {schedule.lr:g}), or let the radius grow slower.",
    )
