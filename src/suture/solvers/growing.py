"""A linear program that is solved again and again, with rows added and prices changed.

HiGHS keeps the model and begins with the last basis; other solvers get the whole program anew.
"""

from __future__ import annotations

import time

import numpy as np
from scipy import sparse

from suture.solvers.choosing import TOLERANCE, solve
from suture.solvers.highs import KeptModel
from suture.solvers.limits import Limits
from suture.solvers.problem import Problem
from suture.solvers.solution import Solution


class Growing:
    """``minimise c·x  subject to  rows, lower <= x <= upper``, one solve after another.

    Args:
        cost: float64 ``(n,)``.
        lower, upper: float64 ``(n,)``.
        solver: "highs" keeps its model between solves; the others do not.

    Attributes:
        solves: how many were asked for.

    >>> import numpy as np
    >>> program = Growing(np.ones(2), np.zeros(2), np.full(2, 9.0))
    >>> program.add(np.array([[1.0, 2.0]]), np.array([2.0]), np.array([np.inf]))
    >>> program.solve().x.tolist()
    [0.0, 1.0]
    >>> program.add(np.array([[1.0, 0.0]]), np.array([1.0]), np.array([np.inf]))
    >>> program.solve().x.tolist()
    [1.0, 0.5]
    """

    def __init__(
        self, cost: np.ndarray, lower: np.ndarray, upper: np.ndarray, *, solver: str = "highs"
    ) -> None:
        self._cost, self._lower, self._upper = cost.astype(float), lower, upper
        self._solver, self._parts = solver, list[tuple[np.ndarray, np.ndarray, np.ndarray]]()
        self._kept = KeptModel(cost, lower, upper) if solver == "highs" else None
        self.solves = 0

    def add(self, matrix: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """Rows ``lower <= matrix @ x <= upper``, matrix dense ``(k, n)``."""
        self._parts.append((matrix, lower, upper))
        if self._kept is not None:
            self._kept.add(matrix, lower, upper)

    def change(self, *, cost: np.ndarray | None = None, upper: np.ndarray | None = None) -> None:
        """Another cost or upper bounds, both ``(n,)``."""
        self._cost = self._cost if cost is None else cost
        self._upper = self._upper if upper is None else upper
        if self._kept is not None:
            self._kept.change(self._cost, self._lower, self._upper)

    def solve(self, seconds: float | None = None) -> Solution:
        """As ``suture.solvers.solve``; an answer that breaks a constraint is solved from scratch.

        Args:
            seconds: wall time, ``None`` for no limit.
        """
        self.solves += 1
        if self._kept is not None:
            started = time.perf_counter()
            found = self._kept.solve(Limits(seconds=seconds), self._cost)
            if not found.status.found or self._holds(found.x):
                return found
            if seconds is not None:
                seconds = max(1e-3, seconds - (time.perf_counter() - started))
        return solve(self._problem(), solver=self._solver, seconds=seconds)

    def _holds(self, x: np.ndarray) -> bool:
        room = TOLERANCE * max(1.0, float(np.abs(x).max(initial=0.0)))
        if not np.isfinite(x).all() or (x < self._lower - room).any():
            return False
        if (x > self._upper + room).any():
            return False
        return all(
            bool((values >= low - room).all() and (values <= high + room).all())
            for values, low, high in ((m @ x, low, high) for m, low, high in self._parts)
        )

    def _problem(self) -> Problem:
        n = len(self._cost)
        matrices = [part[0] for part in self._parts] or [np.zeros((0, n))]
        low = np.concatenate([np.zeros(0), *(part[1] for part in self._parts)])
        high = np.concatenate([np.zeros(0), *(part[2] for part in self._parts)])
        matrix = sparse.csr_array(np.vstack(matrices))
        return Problem(self._cost, self._lower, self._upper, matrix, low, high)
