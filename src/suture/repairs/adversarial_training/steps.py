"""One step of adversarial training: attack a batch, and move the weights."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from suture.engine import Share
from suture.repairs.adversarial_training.inner import held_fixed, single_step, uniform
from suture.repairs.adversarial_training.perturbation import perturbed
from suture.repairs.adversarial_training.rates import rate
from suture.repairs.adversarial_training.suffix import Suffix
from suture.repairs.tuning import orders
from suture.rng import Stream
from suture.training.augment import augmented
from suture.training.fitting import own_random_state
from suture.types import Batch, LabelledImages

if TYPE_CHECKING:
    from suture.repairs.adversarial_training.method import AdversarialTraining

NOISE = 2.0
"""Width of N-FGSM's noise, in radii (de Jorge et al. 2022)."""


class Steps:
    """Batches of images, and an optimiser over the part that learns.

    Args:
        method: its attack, its loss, its settings; images are attacked with its reach.
        part: what learns.
        images: clean ones to train on.
        stream: order, augmentation and starts are functions of it, the epoch and the step.
        share: this process' part of every batch.
    """

    def __init__(
        self,
        method: AdversarialTraining,
        part: Suffix,
        images: LabelledImages,
        stream: Stream,
        share: Share | None = None,
    ) -> None:
        self.share = share or Share()
        self.method, self.part, self.images, self.stream = method.widened, part, images, stream
        self.optimiser = method.optimiser_of(list(part.parameters))
        self.device = images.device

    def pieces(self, epoch: int) -> list[Tensor]:
        """Positions of the images of each step; in none of them a process has nothing to do."""
        order = self.stream.child("order").child(epoch)
        pieces = orders(len(self.images), order, self.method.step_images)
        return pieces[:-1] if len(pieces[-1]) < self.share.world else pieces

    def take(
        self,
        batch: Batch,
        piece: Tensor,
        epoch: int,
        index: int,
        done: float,
        *,
        single: bool = False,
    ) -> Tensor:
        """One step; the whole batch's mean loss, detached.

        Args:
            batch: the process' own images.
            piece: the whole batch's positions, int64 ``(n,)``.
            epoch: counted from 1.
            index: of the step in the epoch.
            done: share of all steps that are done.
            single: attack by N-FGSM's single step, whatever the method.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.method.schedule, self.method.lr, done)
        dropout = self.stream.child("dropout").child(epoch).child(index).child(self.share.rank)
        half = self.method.precision == "bf16"
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=half)
        with own_random_state(dropout, self.device), autocast:
            return self._taken(batch, piece, epoch, index, single)

    def _taken(self, batch: Batch, piece: Tensor, epoch: int, index: int, single: bool) -> Tensor:
        images, labels = self._augmented(batch, self.share.own(piece), epoch), batch.labels
        starts = self.stream.child("start").child(epoch).child(index).generator()
        noise = self._by_noise if single else self.method.noise
        # Drawn for the whole batch: every process takes its rows of what one would draw.
        offsets = self.share.own(noise((len(piece), *images.shape[1:]), starts)).to(images)
        attacked = (self._by_one_step if single else self._attacked)(images, labels, offsets)
        loss, gradients = self._gradients(images, attacked, labels, len(piece))
        for parameter, gradient in zip(self.part.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.share.level(self.part.model)
        if self.method.clip:
            nn.utils.clip_grad_norm_(self.part.parameters, self.method.clip)
        self.optimiser.step()
        return loss

    def timed(self, seconds: float, *, single: bool = False) -> float:
        """Wall-clock seconds of a step: the median of twenty, or of as many as the time allows.

        The weights move; use a copy.
        """
        times, start = list[float](), time.perf_counter()
        pieces = self.pieces(1)[:20]
        for index, batch in enumerate(self.images.feed(pieces)):
            before = time.perf_counter()
            # A number: the device has finished.
            float(self.take(batch, pieces[index], 1, index, 0.5, single=single))
            times.append(time.perf_counter() - before)
            if time.perf_counter() - start > seconds:
                break
        return sorted(times)[len(times) // 2]

    def _augmented(self, batch: Batch, piece: Tensor, epoch: int) -> Tensor:
        if self.method.augment == "none":
            return batch.images
        draws = self.stream.child("augment").child(epoch)
        images = augmented(batch.images.cpu(), piece, self.method.augment, draws)
        return images.to(self.device)

    def _attacked(self, images: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        model = self.part.model.eval()
        return self.method.attacked(model, images, labels, noise, self.part.parameters)

    def _by_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return uniform(shape, NOISE * self.method.eps, generator)

    def _by_one_step(self, images: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        model = self.part.model.eval()
        with held_fixed(self.part.parameters):
            return single_step(model, images, labels, noise, self.method.eps)

    def _gradients(
        self, images: Tensor, attacked: Tensor, labels: Tensor, batch: int
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """The loss and its gradients in train mode, at perturbed weights where asked for."""
        parameters, gamma = self.part.parameters, self.method.awp
        if not gamma:
            self.part.learns()
            return self._differentiated(images, attacked, labels, batch)
        # Uphill in eval mode: batch norm's statistics move once a step.
        _, uphill = self._differentiated(images, attacked, labels, batch)
        self.part.learns()
        with perturbed(parameters, uphill, gamma):
            return self._differentiated(images, attacked, labels, batch)

    def _differentiated(
        self, images: Tensor, attacked: Tensor, labels: Tensor, batch: int
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Of the whole batch's mean: own images count by their share of it."""
        loss = self.method.loss(self.part.model, images, attacked, labels)
        found = torch.autograd.grad(loss, self.part.parameters, allow_unused=True)
        *gradients, mean = self.share.mean([*found, loss.detach()[None]], len(images), batch)
        assert mean is not None, "the loss itself is a number"
        return mean[0], tuple(gradients)
