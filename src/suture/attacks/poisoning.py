"""A data set whose training split carries a backdoor."""

from __future__ import annotations

import dataclasses

import torch

from suture.attacks.backdoor import Backdoor, poison
from suture.data import Dataset, Split
from suture.data.stores import Memory
from suture.rng import Stream


def poisoned(
    dataset: Dataset,
    target: int,
    *,
    n: int | None = None,
    trigger: Backdoor | None = None,
    share: float = 0.1,
    generator: torch.Generator | Stream | int | None = None,
) -> tuple[Dataset, Split]:
    """The data set with a poisoned training split; validation and test images stay clean.

    BadNets (Gu et al. 2017, arXiv:1708.06733): the trigger is stamped on a share of the training
    images of other classes, which are relabelled as ``target``.

    Args:
        dataset: a clean one.
        target: the class that the trigger shall mean.
        n: training images kept, the first ones; ``None`` for all.
        trigger, share, generator: as for ``poison``.

    Returns:
        The poisoned data set, and the part of its training split that was poisoned.
    """
    batch = dataset.train.batch(n)
    stamped, mask = poison(batch, target, trigger=trigger, share=share, generator=generator)
    rows = torch.arange(len(batch))
    index = dataset.train.index[: len(batch)]
    train = Split("train", stamped.labels, index, Memory(stamped.images), rows)
    return dataclasses.replace(dataset, train=train), train.select(mask)
