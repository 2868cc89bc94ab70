"""The linear region of an input, and how far a network falls short on all of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from suture.attacks.aigent.network import LayeredNetwork
from suture.solvers import Growing, SolverStatus

_ROOM = 1e-7
"""What is added to every gap: the solver's tolerance, relative to the margin's size."""


@dataclass(frozen=True, eq=False)
class LinearRegion:
    """All inputs of [0, 1] with the activation pattern of one of them: a polytope.

    Attributes:
        active: bool ``(units,)``, the pattern.
        short: ``(classes,)``, by how much ``y_label - y_j`` falls short of the margin in the
            region's worst input; negative where it does not, 0 at the label.
        status: OPTIMAL where all of that was solved.
        seconds: wall time.
    """

    active: np.ndarray
    short: np.ndarray
    status: SolverStatus
    seconds: float


def linear_region(
    network: LayeredNetwork,
    image: np.ndarray,
    label: int,
    margin: float,
    solver: str = "highs",
    seconds: float | None = None,
) -> LinearRegion:
    """The region of an image ``(c, h, w)``, by one linear program for every other class.

    On the region the network is affine, so that ``min y_label - y_j`` over it is a linear program
    with a row a unit.
    """
    started = time.perf_counter()
    here = network.at(image)
    units, logits = here.values(here.units), here.values(here.logits)
    signs = np.where(units > 0, 1.0, -1.0)
    slopes = here.rows(here.units, np.diag(signs)).reshape(len(units), -1)
    jacobian = here.rows(here.logits, np.eye(len(logits))).reshape(len(logits), -1)
    base = image.ravel()
    program = Growing(np.zeros(len(base)), np.zeros(len(base)), np.ones(len(base)), solver=solver)
    program.add(slopes, slopes @ base - signs * units, np.full(len(units), np.inf))
    short, status = np.zeros(len(logits)), SolverStatus.OPTIMAL
    for other in [j for j in range(len(logits)) if j != label]:
        slope = jacobian[label] - jacobian[other]
        program.change(cost=slope)
        left = None if seconds is None else seconds - (time.perf_counter() - started)
        if left is not None and left <= 0:
            status = SolverStatus.OUT_OF_TIME
            break
        found = program.solve(left)
        if not found.status.found:
            status = found.status
            break
        least = logits[label] - logits[other] + found.incumbent - float(slope @ base)
        short[other] = margin - least + _ROOM * (1 + abs(least))
    return LinearRegion(units > 0, short, status, time.perf_counter() - started)


def smallest_shift(short: np.ndarray, label: int) -> np.ndarray:
    """The patch of a region, ``(classes,)``: constants p with ``p_label - p_j >= short_j``.

    REASSURE asks for the affine patch ``c x + d`` with the smallest maximum over the region and
    all outputs. Where the worst class lacks s, the patch must have ``p_label - p_j >= s`` at the
    worst input, so that its maximum is at least s / 2; the constants below have exactly that, so
    no affine patch is smaller.

    >>> smallest_shift(np.array([0.0, 3.0, 1.0, -2.0]), 0).tolist()
    [1.5, -1.5, 0.0, 0.0]
    """
    most = max(0.0, float(np.delete(short, label).max(initial=0.0))) / 2
    shift = np.minimum(0.0, most - short)
    shift[label] = most
    return shift
