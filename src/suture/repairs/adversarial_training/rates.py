"""The learning rate as a function of how much of the training is done."""

from __future__ import annotations

import math
from typing import Literal

Course = Literal["one-cycle", "cosine", "step", "constant"]

RISE, START = 0.3, 1 / 25
"""One-cycle: share of the steps that rise, and where they begin, as a share of the peak."""
DROPS, FACTOR = (0.5, 0.75), 0.1
"""Step: shares of the training after which the rate is multiplied by the factor."""


def rate(course: Course, peak: float, done: float) -> float:
    """The learning rate of a step.

    one-cycle (Smith & Topin 2017, arXiv:1708.07120, with cosines for its two slopes): from
    ``peak/25`` up to ``peak`` over the first 30 %, then down to 0; cosine: ``peak · (1 +
    cos(π · done)) / 2``; step: ``peak``, a tenth of it from one half on, a hundredth from three
    quarters on; constant: ``peak``.

    Args:
        peak: the largest rate.
        done: share of all steps that are done, in [0, 1).
    """
    if course == "one-cycle":
        if done < RISE:
            return peak * (START + (1 - START) * (1 - _falling(done / RISE)))
        return peak * _falling((done - RISE) / (1 - RISE))
    if course == "cosine":
        return peak * _falling(done)
    if course == "step":
        return peak * FACTOR ** sum(at <= done for at in DROPS)
    return peak


def _falling(done: float) -> float:
    """Half a cosine wave from 1 to 0."""
    return (1 + math.cos(math.pi * done)) / 2
