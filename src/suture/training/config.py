"""How to train: one frozen dataclass, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from suture.errors import ArgumentError

Optimiser = Literal["adam", "sgd", "rmsprop"]
Schedule = Literal["cosine", "step", "none"]
Augment = Literal["none", "shift", "flip-crop", "crop-rotate"]


@dataclass(frozen=True)
class TrainConfig:
    """Hyper-parameters of a training run.

    Attributes:
        epochs: passes over the training split, at most.
        batch_size: images per step.
        optimiser: "adam" (AdamW: weight decay apart from the gradient), "sgd", or "rmsprop".
        lr: learning rate at the start.
        weight_decay: as the optimiser takes it.
        momentum: for "sgd" and "rmsprop".
        schedule: "cosine" falls from ``lr`` to 0 over all epochs, batch by batch; "step" multiplies
            by ``step_factor`` after each epoch in ``step_at``; "none" stays at ``lr``.
        step_at: epochs (counted from 1) after which "step" lowers the rate.
        step_factor: by how much.
        patience: stop after so many epochs without a better validation accuracy; 0 never stops.
        augment: "shift" (by up to a 28th of the side), "flip-crop" (mirror, shift by up to an
            eighth of the side: CIFAR-10), "crop-rotate" (shift as far, turn by up to 10°: MNIST),
            "none"; drawn anew for every image and epoch.
        label_smoothing: share of the target spread over all classes, in [0, 1).
        keep_best: return the epoch with the best validation accuracy (the first of equals, judged
            by loss) instead of the last one.

    Raises:
        ArgumentError: for any value out of range.
    """

    epochs: int = 20
    batch_size: int = 64
    optimiser: Optimiser = "adam"
    lr: float = 3e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    schedule: Schedule = "cosine"
    step_at: tuple[int, ...] = ()
    step_factor: float = 0.1
    patience: int = 0
    augment: Augment = "none"
    label_smoothing: float = 0.0
    keep_best: bool = True

    def __post_init__(self) -> None:
        for name, choices in (
            ("optimiser", Optimiser),
            ("schedule", Schedule),
            ("augment", Augment),
        ):
            value, known = getattr(self, name), get_args(choices)
            _require(value in known, name, f"one of {', '.join(known)}", value)
        for name, least in (("epochs", 1), ("batch_size", 1), ("patience", 0)):
            value = getattr(self, name)
            _require(isinstance(value, int) and value >= least, name, f"at least {least}", value)
        _require(0 < self.lr < math.inf, "lr", "positive and finite", self.lr)
        _require(0 <= self.weight_decay < math.inf, "weight_decay", "at least 0", self.weight_decay)
        _require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
        _require(
            0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)", self.label_smoothing
        )
        _require(0 < self.step_factor <= 1, "step_factor", "in (0, 1]", self.step_factor)
        steps = all(isinstance(epoch, int) and epoch >= 1 for epoch in self.step_at)
        _require(
            steps and (self.step_at or self.schedule != "step"),
            "step_at",
            'epochs from 1 on (schedule="step" needs some)',
            self.step_at,
        )


def _require(holds: Any, name: str, wanted: str, value: Any) -> None:
    if not holds:
        raise ArgumentError(
            expected=f"{name} {wanted}",
            got=f"{name}={value!r}",
            remedy="See TrainConfig for what each field means.",
        )


def learning_rate(config: TrainConfig, epoch: int, progress: float) -> float:
    """The learning rate in an epoch.

    cosine: ``lr · (1 + cos(π · (epoch - 1 + progress) / epochs)) / 2``; step: ``lr ·
    step_factor^(number of step_at below epoch)``.

    Args:
        epoch: counted from 1.
        progress: share of the epoch that is done, in [0, 1).
    """
    if config.schedule == "cosine":
        done = (epoch - 1 + progress) / config.epochs
        return config.lr * (1 + math.cos(math.pi * done)) / 2
    if config.schedule == "step":
        return config.lr * config.step_factor ** sum(at < epoch for at in config.step_at)
    return config.lr
