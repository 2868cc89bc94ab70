"""Adversarial fine-tuning: go on training with images that an attack made on the given model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from suture.attacks import FGSM, Attack
from suture.attacks.spread import spread
from suture.data import batch_of
from suture.repairs.base import REPAIRS
from suture.repairs.baselines.tuning import Tuning
from suture.repairs.context import Context
from suture.repairs.tuning import Fit, accuracy, orders
from suture.rng import Stream
from suture.types import Batch, LabelledImages


@REPAIRS.add("adversarial")
@dataclass(frozen=True, kw_only=True)
class AdversarialTuning(Tuning):
    """The baselines of DARE: FGSM, BIM, PGD, C&W or JSMA images, made once, and the cross entropy.

    The attack runs on the given model. What fools it is tuned on, mixed with clean images; the
    same attack's images of held-out ones choose the setting. With ``attack=FGSM(...)`` this is the
    paper's column FGSM, and so on.

    Args:
        attack: makes the adversarial images.
        clean: clean images beside each adversarial one.
    """

    attack: Attack = field(default_factory=FGSM)
    clean: float = 1.0

    def _checks(self) -> dict[str, bool]:
        return super()._checks() | {"clean >= 0": self.clean >= 0}

    def fit(
        self,
        model: nn.Module,
        looked: LabelledImages,
        held: LabelledImages,
        context: Context,
    ) -> tuple[Fit | None, dict[str, Any]]:
        """Attack both parts; tune on what fooled the model."""

        def attacked(part: Batch, name: str) -> Batch | None:
            result = spread(
                self.attack,
                model,
                part,
                engine=context.engine,
                generator=context.stream.child(name),
                batch_size=context.batch_size,
                stage=f"attack {name}",
                on_progress=partial(context.tell, f"attacking {name} images"),
            )
            rows = (result.success & result.clean_right).nonzero()[:, 0]
            return Batch(result.images[rows], part.labels[rows]) if len(rows) else None

        # What an attack makes is held as a tensor: samples says how many fit.
        adversarial = attacked(batch_of(looked), "training")
        judge = attacked(batch_of(held), "held-out")
        facts = {
            "adversarial": 0 if adversarial is None else len(adversarial),
            "adversarial_held_out": 0 if judge is None else len(judge),
        }
        if adversarial is None or judge is None:
            return None, facts
        count = min(len(looked), round(self.clean * len(adversarial)))
        mixed = Batch.concat([adversarial, looked[:count]]) if count else adversarial
        return CrossEntropyFit(mixed, judge, context.batch_size), facts | {"clean": count}


@dataclass(frozen=True, eq=False)
class CrossEntropyFit:
    """The cross entropy of a fixed set of images, over all parameters.

    Attributes:
        batch: to tune on.
        judge: adversarial held-out images; the score is the accuracy there.
        batch_size: images per forward where nothing is learned.
    """

    batch: Batch
    judge: Batch
    batch_size: int

    def steps(self, model: nn.Module, stream: Stream, size: int) -> Iterator[dict[str, Tensor]]:
        """One pass in train mode: batch norm moves its statistics, dropout drops."""
        model.train()
        for chosen in orders(len(self.batch), stream, size):
            loss = cross_entropy(model(self.batch.images[chosen]), self.batch.labels[chosen])
            yield gradients(loss, model)

    def score(self, model: nn.Module) -> float:
        """Accuracy on the adversarial held-out images."""
        return accuracy(model, self.judge, self.batch_size)


def gradients(loss: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """Of all parameters that the loss depends on, by name."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {n: g for n, g in zip(named, found, strict=True) if g is not None}
