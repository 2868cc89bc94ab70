"""How many past selves teach, and which epochs are right where the last one is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from suture.repairs.dare.collecting import confidences_of
from suture.repairs.dare.memory import Remembered
from suture.types import LabelledImages

FEW = 5.0
"""Effective tutors below which the history has little to say."""


def effective(counts: Tensor) -> float:
    """``exp(entropy)`` of the shares: how many equally frequent tutors would be as varied.

    Args:
        counts: images of each tutor, ``(tutors,)``; 0 where there are none at all.
    """
    total = float(counts.sum())
    if not total:
        return 0.0
    shares = counts[counts > 0].double() / total
    return float(torch.exp(-(shares * shares.log()).sum()))


def variety(counts: Tensor, looked: int) -> dict[str, Any]:
    """For a trace: effective and distinct tutors, and whose own last self was the best.

    Args:
        counts: images that each remembered model taught.
        looked: images looked at.
    """
    return {
        "effective_tutors": round(effective(counts), 2),
        "distinct_tutors": int((counts > 0).sum()),
        "own_best": round(1 - int(counts.sum()) / looked, 4) if looked else None,
    }


@dataclass(frozen=True)
class EpochTold:
    """One epoch of a history, on given images; counts of images.

    Attributes:
        epoch: counted from 1.
        right: images that it gets right.
        mends: of them, those that the last remembered epoch gets wrong.
        tutors: images on which it is right with the most confidence of all remembered epochs.
    """

    epoch: int
    right: int
    mends: int
    tutors: int


@torch.no_grad()
def epochs_told(
    model: nn.Module, memory: Remembered, batch: LabelledImages, batch_size: int = 256
) -> list[EpochTold]:
    """What every remembered epoch knows of the images, oldest first.

    Args:
        model: of the history's architecture; its weights do not matter.
        batch: best are images that training has not seen.
    """
    rows, confidences = [], []
    for past in memory.models(model):
        own, right = confidences_of(past, batch, batch_size)
        rows.append(right)
        confidences.append(torch.where(right, own, torch.zeros_like(own)))
    right, confidence = torch.stack(rows), torch.stack(confidences)
    best, taught = confidence.max(0)
    tutors = taught[best > 0].bincount(minlength=len(right))
    mends = (right & ~right[-1]).sum(1)
    return [
        EpochTold(epoch, int(right[i].sum()), int(mends[i]), int(tutors[i]))
        for i, epoch in enumerate(memory.epochs)
    ]
