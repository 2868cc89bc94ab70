"""One call of the paper's ``modifyEdgeLayer``: the smallest patch of one layer that meets a goal.

A patch ε of layer p moves its values by ``Δ_i = Σ_j ε_ij a_j``. All that follows depends on Δ
alone, and the smallest ``max_j |ε_ij|`` that gives Δ_i is ``|Δ_i| / S`` with ``S = Σ_j |a_j|``
(every ε_ij = ±|Δ_i| / S, zero where a_j is zero). So the paper's program over all weights is,
without loss, one over the layer's neurons: minimise M with ``|Δ_i| <= M S``, then ``Σ|Δ_i|``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from suture.attacks.aigent.affine import Span
from suture.attacks.aigent.goals import EXACT, Goal
from suture.attacks.aigent.tail import Tail
from suture.solvers import Growing, Solution, SolverStatus
from suture.solvers.ordering import largest

_SLACK = 1e4
"""Cost of missing a row by one, against a largest change of one."""
_AT_ONCE = 60
"""Broken rows that enter a program at a time."""


@dataclass(frozen=True, eq=False)
class EdgeLayerPatch:
    """A patch of one edge layer.

    Attributes:
        layer: which one, 1 … L.
        change: Δ ``(neurons,)``, what the patch does to the layer's values.
        largest: ``max |ε|``.
        missed: by how much the goal or a phase is missed where no patch meets them all.
        inputs: a ``(width,)``, the values that the layer's weights meet.
    """

    layer: int
    change: np.ndarray
    largest: float
    missed: float
    inputs: np.ndarray

    @property
    def met(self) -> bool:
        """Whether the patch meets its goal in the assumed phases."""
        return self.missed <= EXACT

    def weights(self) -> np.ndarray:
        """ε ``(neurons, width)``: in each row the smallest ``max |ε|`` that gives the change."""
        total = np.abs(self.inputs).sum()
        return (
            np.outer(self.change, np.sign(self.inputs)) / total
            if total
            else np.zeros((len(self.change), len(self.inputs)))
        )


@dataclass(frozen=True, eq=False)
class Below:
    """What the layers before the patched one can make of it, the first one's values being free.

    Attributes:
        span: from z_1 to the patched layer.
        room: ``(lower, upper)`` of z_1, each ``(neurons,)``.
    """

    span: Span
    room: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class PatchStep:
    """A layer of a network that ends at layer ``top``, and the goal there.

    Attributes:
        tail, signs: the network and its assumed phases.
        layer, top: 1 … L.
        inputs, values: a and z of the layer, for the given input.
        goal: on the values of ``top``.
        lower, upper: ``(neurons,)``, of Δ.
        below: what the layers before can reach; ``None`` to ask nothing of them.
    """

    tail: Tail
    signs: list[np.ndarray]
    layer: int
    top: int
    inputs: np.ndarray
    values: np.ndarray
    goal: Goal
    lower: np.ndarray
    upper: np.ndarray
    below: Below | None

    def solve(
        self, solver: str, seconds: float | None
    ) -> tuple[EdgeLayerPatch | None, SolverStatus]:
        """The patch with the smallest ``max |ε|``; of the last layer's, that with the least Σ|Δ|.

        Targets that layers before have to meet are free to be any of the smallest.
        """
        reach = float(np.abs(self.inputs).sum())
        if reach == 0.0:
            return None, SolverStatus.INFEASIBLE
        slope, offset = self._effect()
        rows = LazyRows(*self._constraints(slope, offset))
        found, missed = self._smallest(slope, offset, rows, solver, seconds)
        if not found.status.found:
            return None, found.status
        change = slope @ found.x[: slope.shape[1]] + offset
        if self.below is None:
            change = self._least_sum(change, missed, rows, solver, seconds)
        largest = float(np.abs(change).max()) / reach
        patch = EdgeLayerPatch(self.layer, change, largest, missed, self.inputs)
        return patch, SolverStatus.OPTIMAL

    def _effect(self) -> tuple[np.ndarray, np.ndarray]:
        """Δ as ``slope @ w + offset`` of the unknowns w: Δ itself, or the first layer's values."""
        if self.below is None:
            return np.eye(len(self.values)), np.zeros(len(self.values))
        return self.below.span.slope, self.below.span.shift - self.values

    def _constraints(
        self, slope: np.ndarray, offset: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Goal, then phases, as ``matrix @ w >= right``; how many rows the goal has."""
        span = Span.of(self.tail, self.signs, self.layer, self.top)
        matrix = np.vstack([self.goal.matrix @ span.slope, span.phases])
        right = np.concatenate([self.goal.right - self.goal.matrix @ span.shift, span.least])
        right, matrix = right - matrix @ (self.values + offset), matrix @ slope
        if self.below is not None:
            matrix = np.vstack([matrix, self.below.span.phases])
            right = np.concatenate([right, self.below.span.least])
        return matrix, right, len(self.goal.right)

    def _smallest(
        self,
        slope: np.ndarray,
        offset: np.ndarray,
        rows: LazyRows,
        solver: str,
        seconds: float | None,
    ) -> tuple[Solution, float]:
        """Minimise M with ``|Δ_i| <= M`` (a common factor S changes nothing).

        Variables (w, M, slack). The slack lets every row be missed by the same amount, at a price
        that M never outweighs where they can be met.
        """
        n, k = slope.shape
        lower, upper = (self.lower, self.upper) if self.below is None else self.below.room
        cost = np.append(np.zeros(k), [1.0, _SLACK])
        ends = np.zeros(2), np.full(2, np.inf)
        program = Growing(cost, np.append(lower, ends[0]), np.append(upper, ends[1]), solver=solver)
        most, none, free = np.ones((n, 1)), np.zeros((n, 1)), np.full(n, np.inf)
        program.add(np.hstack([slope, -most, none]), -free, -offset)
        program.add(np.hstack([slope, most, none]), -offset, free)
        found = rows.solved(program, lambda m: _widened(m, 0.0, 1.0), seconds)
        return found, float(found.x[-1]) if found.status.found else np.inf

    def _least_sum(
        self,
        change: np.ndarray,
        missed: float,
        rows: LazyRows,
        solver: str,
        seconds: float | None,
    ) -> np.ndarray:
        """Among the patches that are no larger and miss no more, the one with the least Σ|Δ|."""
        n, most = len(change), float(np.abs(change).max()) * (1 + 1e-9) + 1e-12
        upper = np.concatenate([np.maximum(self.upper, 0.0), np.maximum(-self.lower, 0.0)])
        program = Growing(np.ones(2 * n), np.zeros(2 * n), np.minimum(upper, most), solver=solver)
        less = missed * (1 + 1e-9) + 1e-12 if missed > EXACT else 0.0
        found = rows.relaxed(less).solved(program, lambda m: np.hstack([m, -m]), seconds)
        return found.x[:n] - found.x[n:] if found.status.found else change


def _widened(matrix: np.ndarray, most: float, slack: float) -> np.ndarray:
    return np.hstack([matrix, np.tile([most, slack], (len(matrix), 1))])


class LazyRows:
    """Rows ``matrix @ w >= right`` that enter a program only when its answer breaks them.

    Args:
        matrix, right: ``(k, unknowns)``, ``(k,)``.
        first: how many rows are there from the beginning.
    """

    def __init__(self, matrix: np.ndarray, right: np.ndarray, first: int) -> None:
        self._matrix, self._right = matrix, right
        self._used = np.zeros(len(right), dtype=bool)
        self._used[:first] = True

    def relaxed(self, by: float) -> LazyRows:
        """Rows that may be missed by so much, those that were used so far from the beginning."""
        made = LazyRows(self._matrix, self._right - by, 0)
        made._used = self._used.copy()
        return made

    def solved(
        self,
        program: Growing,
        wide: Callable[[np.ndarray], np.ndarray],
        seconds: float | None,
    ) -> Solution:
        """Solve, add the rows that are broken, and again until none is.

        Args:
            wide: rows on w as rows on the program's variables, the slack among them.
        """
        add, started = self._used.nonzero()[0], time.perf_counter()
        while True:
            matrix = wide(self._matrix[add])
            program.add(matrix, self._right[add], np.full(len(add), np.inf))
            self._used[add] = True
            spent = time.perf_counter() - started
            left = None if seconds is None else max(1e-3, seconds - spent)
            found = program.solve(left)
            if not found.status.found:
                return found
            broken = self._right - wide(self._matrix) @ found.x
            add = largest(np.where(self._used, -np.inf, broken), _AT_ONCE)
            add = add[~self._used[add] & (broken[add] > EXACT)]
            if not len(add):
                return found
