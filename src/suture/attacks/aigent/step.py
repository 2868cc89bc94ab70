"""One call of the paper's ``modifyEdgeLayer``: the smallest patch of one layer that meets a goal.

A patch ε of layer p moves its values by ``Δ_i = Σ_j ε_ij a_j``. All that follows depends on Δ
alone, and the smallest ``max_j |ε_ij|`` that gives Δ_i is ``|Δ_i| / S`` with ``S = Σ_j |a_j|``
(every ε_ij = ±|Δ_i| / S, zero where a_j is zero). So the paper's program over all weights is,
without loss, one over the layer's neurons: minimise M with ``|Δ_i| <= M S``, then ``Σ|Δ_i|``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from suture.attacks.aigent.affine import Span
from suture.attacks.aigent.goals import EXACT, Goal
from suture.attacks.aigent.tail import Tail
from suture.solvers import Growing, SolverStatus

_SLACK = 1e4
"""Cost of missing a row by one, against a largest change of one."""


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
        lower, upper: ``(neurons,)`` of z_1.
    """

    span: Span
    lower: np.ndarray
    upper: np.ndarray


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
        """The patch with the smallest ``max |ε|``, among those with the least ``Σ|Δ|``."""
        reach = float(np.abs(self.inputs).sum())
        if reach == 0.0:
            return None, SolverStatus.INFEASIBLE
        n = len(self.values)
        program, upper = self._program(solver)
        best = program.solve(seconds)
        if not best.status.found:
            return None, best.status
        most, missed = float(best.x[2 * n]), float(best.x[2 * n + 1])
        cost = np.zeros(len(upper))
        cost[: 2 * n] = 1.0
        upper[: 2 * n] = np.minimum(upper[: 2 * n], most * (1 + 1e-9) + 1e-12)
        upper[2 * n : 2 * n + 2] = most * (1 + 1e-9) + 1e-12, missed * (1 + 1e-9) + 1e-12
        program.change(cost=cost, upper=upper)
        tidy = program.solve(seconds)
        x = tidy.x if tidy.status.found else best.x
        change = x[:n] - x[n : 2 * n]
        largest = float(np.abs(change).max()) / reach
        return EdgeLayerPatch(
            self.layer, change, largest, missed, self.inputs
        ), SolverStatus.OPTIMAL

    def _program(self, solver: str) -> tuple[Growing, np.ndarray]:
        """Minimise M with ``|Δ_i| <= M`` (a common factor S changes nothing).

        Variables (Δ⁺, Δ⁻, M, slack; z_1 where the layers before count). The slack lets every row
        be missed by the same amount, at a price that M never outweighs where they can be met.
        """
        n, first = len(self.values), 0 if self.below is None else len(self.below.lower)
        free = np.full(2, np.inf)
        upper = np.concatenate([np.maximum(self.upper, 0.0), np.maximum(-self.lower, 0.0), free])
        lower, cost = np.zeros(2 * n + 2), np.concatenate([np.zeros(2 * n), [1.0, _SLACK]])
        if self.below is not None:
            lower = np.concatenate([lower, self.below.lower])
            upper = np.concatenate([upper, self.below.upper])
            cost = np.append(cost, np.zeros(first))
        program = Growing(cost, lower, upper, solver=solver)
        matrix, right = self._constraints()
        _rows(program, matrix, 0.0, 1.0, right - matrix @ self.values, np.inf, first)
        unit = np.eye(n)
        _rows(program, unit, -1.0, 0.0, -np.inf, 0.0, first, both=unit)
        if self.below is not None:
            span = self.below.span
            made = span.shift - self.values
            _rows(program, unit, 0.0, 0.0, made, made, first, below=-span.slope)
            empty = np.zeros((len(span.least), n))
            _rows(program, empty, 0.0, 0.0, span.least, np.inf, first, below=span.phases)
        return program, upper

    def _constraints(self) -> tuple[np.ndarray, np.ndarray]:
        """Goal and phases as ``matrix @ z >= right`` on the patched layer's values z."""
        span = Span.of(self.tail, self.signs, self.layer, self.top)
        matrix = np.vstack([span.phases, self.goal.matrix @ span.slope])
        right = self.goal.right - self.goal.matrix @ span.shift
        return matrix, np.concatenate([span.least, right])


def _rows(
    program: Growing,
    matrix: np.ndarray,
    most: float,
    slack: float,
    lower: np.ndarray | float,
    upper: np.ndarray | float,
    first: int,
    *,
    both: np.ndarray | None = None,
    below: np.ndarray | None = None,
) -> None:
    """``lower <= matrix (Δ⁺ - Δ⁻) + most M + slack s + below z_1 <= upper``.

    ``both`` takes the place of ``-matrix`` for Δ⁻.
    """
    k = len(matrix)
    ends = np.tile([most, slack], (k, 1))
    blocks = [matrix, -matrix if both is None else both, ends]
    if first:
        blocks.append(np.zeros((k, first)) if below is None else below)
    low = np.broadcast_to(np.asarray(lower, dtype=float), (k,)).copy()
    program.add(np.hstack(blocks), low, np.broadcast_to(np.asarray(upper, float), (k,)).copy())
