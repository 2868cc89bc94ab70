"""Training images that an attack fools: what repairs of single inputs and of balls begin with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from suture.attacks import Attack
from suture.attacks.spread import spread
from suture.repairs.context import Context
from suture.types import Batch, LabelledImages


@dataclass(frozen=True, eq=False)
class FooledImages:
    """Images that a model gets right, and what an attack made of them.

    Attributes:
        clean: the images, and their labels; ``None`` where the attack fooled not one.
        images: the adversarial images, ``(n, c, h, w)``.
        tried: how many images were attacked.
    """

    clean: Batch | None
    images: Tensor
    tried: int

    @property
    def wrong(self) -> Batch | None:
        """The adversarial images with the labels that they should have."""
        return None if self.clean is None else Batch(self.images, self.clean.labels)


def fooled_images(
    attack: Attack, samples: int, model: nn.Module, data: LabelledImages, context: Context
) -> FooledImages:
    """The first ``samples`` images, in an order drawn by the seed, that the model gets right and
    the attack fools."""
    order = torch.randperm(len(data), generator=context.stream.child("samples").generator())
    images, found, count, tried = [], [], 0, 0
    for number, piece in enumerate(data.select(order).split(max(64, samples))):
        if count >= samples:
            break
        result = spread(
            attack,
            model,
            piece,
            engine=context.engine,
            generator=context.stream.child("attack"),
            batch_size=context.batch_size,
            stage=f"attack {number}",
        )
        hit = (result.success & result.clean_right).nonzero()[:, 0][: samples - count]
        count, tried = count + len(hit), tried + len(piece)
        if len(hit):
            images.append(piece[hit])
            found.append(result.images[hit])
        context.tell("attacking training images", min(count, samples), samples)
    if not images:
        return FooledImages(None, data[:1].images[:0], tried)
    return FooledImages(Batch.concat(images), torch.cat(found), tried)
