"""A linear program with few rows and many columns: columns come in when their price says so.

Column generation (Gilmore & Gomory 1961) with HiGHS: the program on some columns is solved, the
multipliers of its rows price the others, and those that would lower the cost come in. What is
left in the end is the optimum of the whole program.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from suture.solvers.highs import KeptModel
from suture.solvers.limits import Limits
from suture.solvers.ordering import largest, smallest
from suture.solvers.solution import Solution, SolverStatus, nothing

_AT_ONCE = 64
_CHEAPER = 1e-7
"""Reduced costs above minus this are the solver's rounding."""


class PricedProgram:
    """``minimise c·x  subject to  lower <= A x <= upper, 0 <= x <= most``; rows can be added.

    Args:
        cost, most: float64 ``(n,)``, cost not negative.
        begin: int ``(k,)``, columns to begin with.
    """

    def __init__(self, cost: np.ndarray, most: np.ndarray, begin: np.ndarray) -> None:
        self._cost, self._most = cost, most
        self._inside = np.zeros(len(cost), dtype=bool)
        self._order = np.zeros(0, dtype=int)
        self._matrix = np.zeros((0, len(cost)))
        none = np.zeros(0)
        self._model = KeptModel(none, none, none)
        self._enter(begin)

    def _enter(self, columns: np.ndarray) -> None:
        columns = columns[~self._inside[columns]]
        self._inside[columns] = True
        self._order = np.concatenate([self._order, columns])
        self._model.widen(self._cost[columns], self._most[columns], self._matrix[:, columns])

    def add(self, matrix: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """Rows ``lower <= matrix @ x <= upper``, matrix dense ``(k, n)``."""
        self._matrix = np.concatenate([self._matrix, matrix])
        self._model.add(matrix[:, self._order], lower, upper)
        each = [largest(row, _AT_ONCE // 8) for row in np.abs(matrix)]
        self._enter(np.unique(np.concatenate([np.zeros(0, dtype=int), *each])))

    def solve(self, seconds: float | None = None) -> Solution:
        """The optimum over all columns.

        Args:
            seconds: wall time, ``None`` for no limit.
        """
        started, n = time.perf_counter(), len(self._cost)
        while True:
            spent = time.perf_counter() - started
            left = None if seconds is None else max(1e-3, seconds - spent)
            found = self._model.solve(Limits(seconds=left), self._cost[self._order])
            if found.status is SolverStatus.INFEASIBLE and not self._inside.all():
                self._enter((~self._inside).nonzero()[0])
                continue
            if not found.status.found:
                return nothing(found.status, n, spent, found.solver, -np.inf)
            reduced = self._cost - found.duals @ self._matrix
            reduced[self._inside] = 0.0
            cheap = smallest(reduced, _AT_ONCE)
            cheap = cheap[reduced[cheap] < -_CHEAPER]
            if not len(cheap):
                x = np.zeros(n)
                x[self._order] = found.x
                value, spent = float(self._cost @ x), time.perf_counter() - started
                return Solution(
                    found.status, x, value, value, spent, found.solver, duals=found.duals
                )
            self._enter(cheap)


def cheapest_cover(
    gains: np.ndarray, need: float, price: float, limit: float = np.inf
) -> tuple[np.ndarray, float]:
    """``min Σ x + price s  subject to  gains·x + s >= need, Σ x <= limit, 0 <= x <= 1, s >= 0``.

    In closed form: the largest gains first, as long as one is worth more than its cost of one.

    Returns:
        x ``(n,)`` and s.

    >>> import numpy as np
    >>> cheapest_cover(np.array([1.0, 4.0, 2.0]), 5.0, 100.0)[0].tolist()
    [0.0, 1.0, 0.5]
    """
    x, left, room = np.zeros(len(gains)), need, limit
    for column in _falling(gains):
        gain = gains[column]
        if left <= 0 or room <= 0 or gain * price <= 1.0:
            break
        x[column] = min(1.0, room, left / gain)
        left -= gain * x[column]
        room -= x[column]
    return x, max(0.0, left)


def _falling(values: np.ndarray) -> Iterator[int]:
    """Indices from the largest value to the smallest, sorted as far as somebody asks."""
    few = largest(values, _AT_ONCE)
    yield from few
    rest = np.delete(np.arange(len(values)), few)
    yield from rest[np.argsort(-values[rest], kind="stable")]
