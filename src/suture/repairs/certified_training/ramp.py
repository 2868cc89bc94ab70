"""How the radius grows during certified training."""

from __future__ import annotations

from dataclasses import dataclass

from suture.errors import ArgumentError


@dataclass(frozen=True)
class Ramp:
    """From 0 to the full radius: a power of time at first, then a straight line.

    With ``t`` the epochs since the start, ``m = mid · length`` and ``c`` chosen so that the two
    parts meet with one slope: ``share(t) = c·t^beta`` up to m, then linear up to 1. Smooth where
    bounds are loosest (the "smoothed" schedule of auto_LiRPA, as in A5's code).

    Args:
        start: epoch, counted from 1, with which the radius begins to grow; before, training is
            natural.
        length: epochs until the radius is full; 0 starts with the full radius.
        mid: share of the length at which the power ends.
        beta: the power.

    Raises:
        ArgumentError: a value out of range.
    """

    start: int = 3
    length: int = 18
    mid: float = 0.3
    beta: float = 4.0

    def __post_init__(self) -> None:
        sound = self.start >= 1 and self.length >= 0 and 0 < self.mid < 1 and self.beta >= 1
        if not sound:
            raise ArgumentError(
                expected="start >= 1, length >= 0, mid in (0, 1), beta >= 1",
                got=repr(self),
                remedy="See Ramp; the defaults are the paper's.",
            )

    @property
    def full_from(self) -> int:
        """The first epoch, counted from 1, all of whose batches have the full radius."""
        return self.start + self.length

    def share(self, epoch: int, progress: float) -> float:
        """Share of the full radius in [0, 1].

        Args:
            epoch: counted from 1.
            progress: share of the epoch that is done, in [0, 1).
        """
        if epoch >= self.full_from:
            return 1.0
        t = epoch - self.start + progress
        if t <= 0:
            return 0.0
        middle = self.mid * self.length
        steep = middle ** (self.beta - 1)
        scale = 1 / (steep * (self.beta * (self.length - middle) + middle))
        if t < middle:
            return scale * t**self.beta
        reached = scale * middle**self.beta
        return reached + (1 - reached) * (t - middle) / (self.length - middle)
