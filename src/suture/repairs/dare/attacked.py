"""Beyond the paper: DARE on images that are attacked on the model as it is being tuned.

In every epoch the images are attacked on the model as it stands. Then either Algorithm 1 asks which
past self is right on *these* images, or the past is asked about the clean image, and the attacked
one is to be seen as the clean one was. Clean images keep their tutors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from suture.attacks import Attack
from suture.data import batch_of
from suture.models import untouched
from suture.repairs.dare.collecting import Collected, collect
from suture.repairs.dare.fitting import RegressionFit
from suture.repairs.dare.memory import Remembered
from suture.repairs.dare.regression import Regression
from suture.repairs.dare.variety import variety
from suture.repairs.tuning import accuracy, orders
from suture.rng import Stream
from suture.types import Batch


@dataclass(frozen=True, eq=False)
class AttackedFit:
    """Formula 3 over clean and over attacked images.

    Attributes:
        plain: the tuning on clean images.
        memory: the past selves.
        watched: node where the tutors' values are taken.
        wishes: ``(n, units)``: what is wished of each attacked image; ``None`` where the tutor is
            who is right on the attacked image, if anybody is.
        attack: made anew in every epoch, on the model as it stands.
        looked, held: clean images to attack: to tune on, and to judge by.
        stream: of the attack that judges.
    """

    plain: RegressionFit
    memory: Remembered
    watched: int
    wishes: Tensor | None
    attack: Attack
    looked: Batch
    held: Batch
    stream: Stream

    def steps(self, model: nn.Module, stream: Stream, size: int) -> Iterator[dict[str, Tensor]]:
        """One pass over clean images with a tutor and attacked ones, mixed."""
        parts = [self.plain.tuning, self._taught(model, stream.child("attack"))]
        taught = [(batch_of(p.batch), p.targets) for p in parts if p.batch is not None]
        if not taught:
            return
        batch, targets = Batch.concat([b for b, _ in taught]), torch.cat([t for _, t in taught])
        regression = Regression(model, self.plain.node, self.plain.mask, batch.shape)
        for chosen in orders(len(batch), stream, size):
            yield regression.gradients(batch.images[chosen], batch.labels[chosen], targets[chosen])

    def _taught(self, model: nn.Module, stream: Stream) -> Collected:
        if self.wishes is None:
            return self.asked(model, self.looked, stream)
        attacked = self._attacked(model, self.looked, stream)
        everybody = torch.arange(len(attacked), device=attacked.labels.device)
        nobody = torch.full_like(everybody, -1)
        return Collected(attacked, self.wishes, nobody, len(attacked), 0, everybody)

    def score(self, model: nn.Module) -> float:
        """Accuracy on held-out images that are attacked on this very model."""
        attacked = self._attacked(model, self.held, self.stream)
        return accuracy(model, attacked, self.plain.batch_size)

    def asked(self, model: nn.Module, batch: Batch, stream: Stream) -> Collected:
        """Algorithm 1 over the batch as it is attacked on this model."""
        attacked = self._attacked(model, batch, stream)
        size = self.plain.batch_size
        return collect(model, self.memory, attacked, self.watched, batch_size=size)

    def told(self, model: nn.Module, name: str, stream: Stream) -> dict[str, Any]:
        """For a trace: what the past knows of the images as they are attacked on this model."""
        found = self.asked(model, self.looked, stream)
        counts = found.tutors.bincount(minlength=len(self.memory.states)).cpu()
        facts = {"asked": found.looked, "taught": len(found), "taught_wrong": found.wrong}
        return {name: facts | variety(counts, found.looked)}

    def _attacked(self, model: nn.Module, batch: Batch, stream: Stream) -> Batch:
        size = self.plain.batch_size
        with untouched(model), torch.enable_grad():
            pieces = [
                self.attack(model, piece, generator=stream.child(index)).images
                for index, piece in enumerate(batch.split(size))
            ]
        return Batch(torch.cat(pieces), batch.labels)


def mean_of(memory: Remembered, counts: Tensor, like: nn.Module) -> nn.Module:
    """The past selves' mean, weighted by how many images each taught: a control without tuning.

    Args:
        counts: ``(tutors,)``; all alike where nobody taught.
        like: gives the architecture; not changed.
    """
    weights = counts.double() if bool(counts.any()) else torch.ones(len(memory.states)).double()
    weights = weights / weights.sum()
    mean: dict[str, Tensor] = {}
    for name, first in memory.states[0].items():
        if not first.is_floating_point():
            mean[name] = memory.states[-1][name]
            continue
        values = zip(weights.tolist(), (state[name] for state in memory.states), strict=True)
        mean[name] = sum(w * value.double() for w, value in values).to(first.dtype)  # type: ignore[union-attr]
    (model,) = Remembered((0,), (mean,), memory.origin).models(like)
    return model
