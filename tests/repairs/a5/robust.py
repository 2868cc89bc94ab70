"""A certifiably trained classifier of the digits, made once per process."""

from __future__ import annotations

from functools import cache

from torch import nn

from suture import models
from suture.repairs import CrownIBP
from suture.repairs.certified_training import Ramp, Schedule
from suture.testing.small import digits

EPS = 0.1
SHORT = Schedule(
    epochs=12, batch_size=40, optimiser="adam", lr=3e-3, step_at=(), ramp=Ramp(start=1, length=0)
)


@cache
def robust() -> nn.Module:
    """``digits_cnn`` trained for EPS on 1 200 images. Do not change it."""
    schedule = Schedule(
        epochs=24, batch_size=25, optimiser="adam", lr=3e-3, step_at=(19,), ramp=Ramp(2, 6),
        crown=False,
    )  # fmt: skip
    dataset = digits()
    fresh = models.build("digits_cnn", mean=dataset.mean, std=dataset.std, seed=0)
    return CrownIBP(eps=EPS, schedule=schedule)(fresh, dataset.train.batch(1200)).model
