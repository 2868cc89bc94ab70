"""The methods under DARE's budget: optimisers and rates are searched, as for DARE itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from suture.attacks import PGD
from suture.repairs.baselines.adversarial import gradients
from suture.repairs.baselines.tuning import Tuning
from suture.repairs.context import Context
from suture.repairs.tuning import Fit, Grid, orders
from suture.rng import Stream
from suture.types import Batch, LabelledImages

if TYPE_CHECKING:
    from suture.repairs.adversarial_training.method import AdversarialTraining


@dataclass(frozen=True, kw_only=True)
class Searched(Tuning):
    """Every setting of the grid trains on all images; PGD on held-out ones judges.

    Args:
        method: makes a batch's loss, and has the judge's steps.
    """

    method: AdversarialTraining

    @staticmethod
    def of(method: AdversarialTraining, grid: Grid) -> Searched:
        """With the method's own images."""
        return Searched(method=method, held_out=method.held_out, samples=method.samples, grid=grid)

    def fit(
        self, model: nn.Module, looked: LabelledImages, held: LabelledImages, context: Context
    ) -> tuple[Fit | None, dict[str, Any]]:
        """All images; every step attacks its own."""
        method = self.method
        judge = PGD(eps=method.eps, steps=method.steps, step_size=method.step_size)
        key = context.stream.child("judge")
        some = held[: method.judged]
        return OnlineFit(method, looked, some, judge, key, context.batch_size), {}


@dataclass(frozen=True, eq=False)
class OnlineFit:
    """A method's own loss over clean images.

    Attributes:
        method: makes a batch's loss.
        batch: clean images to train on.
        held: clean held-out images that ``judge`` attacks.
        stream: of the judge.
    """

    method: AdversarialTraining
    batch: LabelledImages
    held: Batch
    judge: PGD
    stream: Stream
    batch_size: int

    def steps(self, model: nn.Module, stream: Stream, size: int) -> Iterator[dict[str, Tensor]]:
        """One pass; every step's images are attacked on the model as it stands."""
        pieces = orders(len(self.batch), stream, size)
        for index, batch in enumerate(self.batch.feed(pieces)):
            images, labels = batch.images, batch.labels
            generator = stream.child("start").child(index).generator()
            noise = self.method.noise(tuple(images.shape), generator).to(images)
            yield gradients(self.method.batch_loss(model, images, labels, noise), model)

    def score(self, model: nn.Module) -> float:
        """Accuracy under PGD made on this very model."""
        model.eval()
        result = self.judge(model, self.held, generator=self.stream, batch_size=self.batch_size)
        return float(result.robust.float().mean())
