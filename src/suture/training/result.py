"""What training returns, and what it reports on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn


@dataclass(frozen=True)
class EpochCurve:
    """One epoch in numbers.

    Attributes:
        epoch: counted from 1.
        train_loss, train_accuracy: mean over the epoch's batches, as they were trained on
            (augmented, dropout on); accuracies are shares in [0, 1].
        validation_loss, validation_accuracy: after the epoch; ``None`` without validation images.
        seconds: wall-clock, validation included.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class Progress:
    """Where a training run stands, after each batch.

    Attributes:
        epoch, epochs: counted from 1, and how many at most.
        batch, batches: within the epoch, counted from 1.
        loss: of this batch.
        validation_accuracy: of the epoch before; ``None`` in the first.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    validation_accuracy: float | None


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A trained classifier and how it came about.

    Attributes:
        model: a trained copy, in eval mode, on the device it was trained on.
        curves: one entry per epoch.
        best_epoch: the epoch with the best validation accuracy; the last one without validation.
        returned_epoch: the epoch whose weights ``model`` has.
        history: the folder with every epoch's weights, if one was asked for.
    """

    model: nn.Module
    curves: tuple[EpochCurve, ...]
    best_epoch: int
    returned_epoch: int
    history: Path | None


def best_epoch(curves: tuple[EpochCurve, ...]) -> int:
    """The epoch with the best validation accuracy; among equals the lower loss, then the earlier.

    Without validation images it is the last epoch.
    """
    judged = [curve for curve in curves if curve.validation_accuracy is not None]
    if not judged:
        return curves[-1].epoch
    return max(judged, key=_rank).epoch


def _rank(curve: EpochCurve) -> tuple[float, float, int]:
    accuracy, loss = curve.validation_accuracy, curve.validation_loss
    assert accuracy is not None
    assert loss is not None
    return accuracy, -loss, -curve.epoch
