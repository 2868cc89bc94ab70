"""What programs are scored on: attacked images, clean images, and their features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from suture.attacks import Attack
from suture.attacks.spread import spread
from suture.engine import Engine, Handle
from suture.models import Cut
from suture.repairs.context import Context
from suture.repairs.defensyn.scoring import Samples
from suture.types import Batch


@dataclass(frozen=True, eq=False)
class Attacked:
    """What attacks made of images, attack by attack.

    Attributes:
        batch: ``attacks · n`` images with their true classes; the clean image where an attack
            found nothing.
        success: bool, the model is wrong on the attacked image.
        clean_right: bool, it is right on the clean one.
        share: of the model's draws, that are right on the attacked one.
    """

    batch: Batch
    success: Tensor
    clean_right: Tensor
    share: Tensor

    @property
    def turned(self) -> Batch | None:
        """The images that were right, and that most draws get wrong; ``None`` if there are none."""
        chosen = self.clean_right & (self.share < 0.5)
        return self.batch[chosen] if bool(chosen.any()) else None

    def held(self, n: int) -> float:
        """How many of n images stay right under the attack that does most, on each image."""
        return float(self.share.double().view(-1, n).min(0).values.sum())


def attacked(
    attacks: tuple[Attack, ...],
    model: nn.Module,
    batch: Batch,
    context: Context,
    what: str = "training images",
) -> Attacked:
    """Every image as each attack leaves it: the paper's ``A(N, x, c)``, attack by attack."""
    parts = []
    for index, attack in enumerate(attacks):
        stream = context.stream.child("attack")
        found = spread(
            attack,
            model,
            batch,
            engine=context.engine,
            generator=stream if index == 0 else stream.child(index),
            batch_size=context.batch_size,
            stage=what if index == 0 else f"{what}, attack {index}",
            on_progress=lambda done, total: context.tell(f"attacking {what}", done, total),
        )
        parts.append(found)
    images = torch.cat([part.images for part in parts])
    labels = batch.labels.to(images.device).repeat(len(parts))
    return Attacked(
        Batch(images, labels),
        success=torch.cat([part.success for part in parts]),
        clean_right=torch.cat([part.clean_right for part in parts]),
        share=torch.cat([part.share for part in parts]),
    )


def gather(
    parts: Cut, clean: Batch, adversarial: Batch, *, engine: Engine, stage: str, work: str
) -> Samples:
    """Features of the attacked images, then of the clean ones; the encoder runs once on each.

    Args:
        clean, adversarial: images with their true classes, any number of each.
        stage, work: what an engine that keeps finished work calls it.
    """
    device = clean.images.device
    pieces = [*adversarial.images.to(device).split(256), *clean.images.split(256)]
    with engine.shared(parts.encoder) as handle:
        features = list(engine.keep(stage, partial(_encode, handle), pieces, work=work))
    labels = torch.cat([adversarial.labels.to(device), clean.labels])
    return Samples(torch.cat(features).to(device), labels, len(adversarial))


def _encode(encoder: Handle[nn.Module], images: Tensor) -> Tensor:
    with torch.no_grad():
        features: Tensor = encoder.get()(images)
    return features
