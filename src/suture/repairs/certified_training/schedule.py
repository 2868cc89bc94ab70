"""How certified training goes: epochs, batches, learning rates, the radius."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from suture.errors import require
from suture.repairs.certified_training.ramp import Ramp
from suture.training.config import Augment


@dataclass(frozen=True)
class Schedule:
    """How to train; the defaults are those of the authors' code (see docs/a5.md for what differs).

    Args:
        epochs: passes over the training images.
        batch_size: images per step.
        optimiser: "rmsprop" or "adam".
        lr: learning rate at the start.
        step_at: epochs, counted from 1, after which it is multiplied by ``step_factor``.
        step_factor: by how much.
        ramp: how the radius grows.
        crown: bound by CROWN-IBP while the radius grows; otherwise by intervals alone.
        fusion: bound the loss as a whole, by one row, in place of a margin a class (Xu et al.
            2020); ``None`` where there are twenty classes or more.
        clip: largest norm of a gradient; 0 for none.
        augment: "crop-rotate" (MNIST), "flip-crop" (CIFAR-10), "shift" or "none".
        validation: share of the training images that judges the epochs.

    Raises:
        ArgumentError: a value out of range, or no epoch at the full radius.
    """

    epochs: int = 100
    batch_size: int = 100
    optimiser: Literal["rmsprop", "adam"] = "rmsprop"
    lr: float = 1e-3
    step_at: tuple[int, ...] = (25, 42)
    step_factor: float = 0.1
    ramp: Ramp = Ramp()  # noqa: RUF009 - frozen
    crown: bool = True
    fusion: bool | None = None
    clip: float = 8.0
    augment: Augment = "none"
    validation: float = 0.1

    def __post_init__(self) -> None:
        checks = {
            "epochs, batch_size >= 1": min(self.epochs, self.batch_size) >= 1,
            'optimiser "rmsprop" or "adam"': self.optimiser in ("rmsprop", "adam"),
            "lr > 0": 0 < self.lr < math.inf,
            "step_at: epochs from 1 on": all(at >= 1 for at in self.step_at),
            "step_factor in (0, 1]": 0 < self.step_factor <= 1,
            "clip >= 0": self.clip >= 0,
            f"augment out of {', '.join(get_args(Augment))}": self.augment in get_args(Augment),
            "validation in (0, 0.5]": 0 < self.validation <= 0.5,
            "a ramp that ends before the last epoch": self.ramp.full_from <= self.epochs,
        }
        require(checks, self, "See the documentation of Schedule.")

    def shortened(self, epochs: int) -> Schedule:
        """The same in so many epochs: ramp and steps keep their share of the time."""
        share = epochs / self.epochs
        start = max(1, round(self.ramp.start * share)) if self.ramp.length else 1
        length = min(round(self.ramp.length * share), epochs - start)
        steps = tuple(sorted({max(1, round(at * share)) for at in self.step_at}))
        ramp = replace(self.ramp, start=start, length=max(0, length))
        return replace(self, epochs=epochs, step_at=steps, ramp=ramp)

    def rate(self, epoch: int) -> float:
        """Learning rate in an epoch, counted from 1."""
        return self.lr * self.step_factor ** sum(at < epoch for at in self.step_at)
