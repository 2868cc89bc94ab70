"""What certified training trains: a classifier, a robustifier, letters, or several of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from suture.repairs.certified_training.loss import Judged
from suture.rng import Stream


@dataclass(frozen=True, eq=False)
class Sample:
    """Some of the images.

    Attributes:
        images: ``(n, c, h, w)``, augmented where they are trained on.
        labels: int64 ``(n,)``.
        positions: int64 ``(n,)``, where they stand in the training or validation images.
        rows: int64 ``(n,)``, where they stand in the batch that all processes share; ``None`` for
            one after the other.
    """

    images: Tensor
    labels: Tensor
    positions: Tensor
    rows: Tensor | None = None


class Trainee(Protocol):
    """What is trained."""

    @property
    def module(self) -> nn.Module:
        """Holds all weights that are trained, and all that decides what it computes."""

    def parameters(self) -> list[nn.Parameter]:
        """Those that are trained."""

    def loss(self, sample: Sample, share: float, crown: float, stream: Stream) -> Judged:
        """Of a batch.

        Args:
            share: of the full radius.
            crown: share of CROWN-IBP in the bounds, and of the natural loss.
            stream: for what is drawn at random.
        """

    def judge(self, sample: Sample, stream: Stream) -> tuple[Tensor, Tensor]:
        """Which images are right, and which are certified by intervals at the full radius."""

    def to(self, device: torch.device | str) -> Trainee:
        """Itself, moved in place."""
