"""How a certified training went, epoch by epoch, and which epoch was best."""

from __future__ import annotations

from dataclasses import dataclass

from suture.repairs.certified_training.ramp import Ramp

Errors = tuple[float, float]
"""Shares of images in [0, 1]: classified wrong, and not certified."""


@dataclass(frozen=True)
class Curve:
    """One epoch in numbers; errors are shares in [0, 1].

    Attributes:
        epoch: counted from 1.
        share: of the full radius, at the epoch's end.
        loss: mean over the batches.
        clean_error, certified_error: on the training batches, as they were trained on.
        validation_clean_error, validation_certified_error: after the epoch, by intervals at the
            full radius.
    """

    epoch: int
    share: float
    loss: float
    clean_error: float
    certified_error: float
    validation_clean_error: float
    validation_certified_error: float


@dataclass(frozen=True, eq=False)
class Trained:
    """How a training went; the trainee has the best epoch's weights.

    Attributes:
        curves: one entry per epoch.
        best_epoch: the one with the least certified error on the validation images among those
            trained at the full radius; of equals the one with less clean error, then the earlier.
            0 if the weights that training began with are the best, and may be.
        start: errors on the validation images before the first epoch, clean and certified, where
            those weights may be the best.
    """

    curves: tuple[Curve, ...]
    best_epoch: int
    start: Errors | None = None

    @property
    def errors(self) -> Errors:
        """Of the best epoch on the validation images, clean and certified."""
        if self.best_epoch == 0:
            assert self.start is not None
            return self.start
        best = self.curves[self.best_epoch - 1]
        return best.validation_clean_error, best.validation_certified_error


def best_of(curves: tuple[Curve, ...], ramp: Ramp, start: Errors | None = None) -> int:
    """The best epoch among those trained at the full radius; the last one while there is none.

    Args:
        start: errors of what is to be beaten, clean and certified; if nothing does, 0.
    """
    full = {
        c.epoch: (c.validation_certified_error, c.validation_clean_error)
        for c in curves
        if c.epoch >= ramp.full_from
    }
    if start is not None:
        full = {0: (start[1], start[0])} | full
    return min(full, key=lambda epoch: full[epoch]) if full else curves[-1].epoch
