"""How a solve ended, and what it found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

import numpy as np


class SolverStatus(Enum):
    """How a solve ended: a sentence, with a remedy where one is needed."""

    OPTIMAL = "The best solution was found, and proved to be the best within the tolerance."
    FEASIBLE = (
        "Time ran out with a solution in hand; the gap says how far from the best it may be. "
        "Raise the time limit."
    )
    INFEASIBLE = "No solution exists. Loosen a constraint."
    UNBOUNDED = "The objective has no limit. A bound or a constraint is missing."
    OUT_OF_TIME = "Time ran out before any solution was found. Raise the time limit."
    FAILED = (
        "The solver gave up for numerical reasons, or its answer broke the constraints. "
        "Scale the problem, or try another solver."
    )

    @property
    def found(self) -> bool:
        """Whether there is a solution to use."""
        return self in (SolverStatus.OPTIMAL, SolverStatus.FEASIBLE)


@dataclass(frozen=True, eq=False)
class Solution:
    """What a solver found.

    Attributes:
        status: how it ended.
        x: float64 ``(n,)``; NaN where nothing was found.
        incumbent: the objective at ``x``; ``inf`` where nothing was found.
        bound: no solution is better than this; ``-inf`` where nothing is known.
        seconds: wall time of building and solving.
        solver: which one, with its version.
        notes: what the reader should know: a fallback, a failure.
        duals: float64 ``(m,)``: by how much the optimum changes per unit of each row's bound, of
            linear programs that HiGHS solved; empty where they are not known.
    """

    status: SolverStatus
    x: np.ndarray
    incumbent: float
    bound: float
    seconds: float
    solver: str
    notes: tuple[str, ...] = field(default=())
    duals: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def gap(self) -> float:
        """``(incumbent - bound) / max(1, |incumbent|)``; ``inf`` where either is missing."""
        if not (math.isfinite(self.incumbent) and math.isfinite(self.bound)):
            return math.inf
        return max(0.0, self.incumbent - self.bound) / max(1.0, abs(self.incumbent))


def nothing(status: SolverStatus, n: int, seconds: float, solver: str, bound: float) -> Solution:
    """A result without a solution of ``n`` variables."""
    return Solution(status, np.full(n, np.nan), math.inf, bound, seconds, solver)


class Unusable(Exception):
    """A solver cannot take a problem here; the text is a sentence for the reader."""
