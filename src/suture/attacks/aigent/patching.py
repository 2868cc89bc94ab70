"""Patches of one edge layer after another, from the middle down to the first (Algorithm 1).

A patch ε of layer p moves its values by ``Δ_i = Σ_j ε_ij a_j``. All that follows depends on Δ
alone, and the smallest ``max_j |ε_ij|`` that gives Δ_i is ``|Δ_i| / S`` with ``S = Σ_j |a_j|``
(every ε_ij = ±|Δ_i| / S, zero where a_j is zero). So the paper's program over all weights is,
without loss, one over the layer's neurons: minimise M with ``|Δ_i| <= M S``, then ``Σ|Δ_i|``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from suture.attacks.aigent.tail import Tail
from suture.solvers import Problem, SolverStatus, rows, solve

_SLACK = 1e4
"""Cost of missing a row by one, against a largest change of one."""
_EXACT = 1e-7


@dataclass(frozen=True, eq=False)
class Goal:
    """What the values of a layer must fulfil: ``matrix @ z >= right``.

    Attributes:
        matrix: ``(k, neurons)``.
        right: ``(k,)``.
        marks: ``(neurons,)``: +1 for an increment neuron, -1 for a decrement neuron, 0 for none.
    """

    matrix: np.ndarray
    right: np.ndarray
    marks: np.ndarray


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

    def weights(self) -> np.ndarray:
        """ε ``(neurons, width)``: in each row the smallest ``max |ε|`` that gives the change."""
        total = np.abs(self.inputs).sum()
        return (
            np.outer(self.change, np.sign(self.inputs)) / total
            if total
            else np.zeros((len(self.change), len(self.inputs)))
        )


@dataclass(frozen=True, eq=False)
class PatchChain:
    """Patches from the middle layer to the first, and what the first layer's values should be.

    Attributes:
        patches: in the order in which they were found.
        status: OPTIMAL if every patch meets its goal in the assumed phases; INFEASIBLE if one of
            them could only come as near as possible; else how the last program failed.
        targets: ``(neurons,)`` values of layer 1 under its patch.
        marks: their marks.
    """

    patches: tuple[EdgeLayerPatch, ...]
    status: SolverStatus
    targets: np.ndarray
    marks: np.ndarray


def wanted(target: int, others: Sequence[int], classes: int, margin: float) -> Goal:
    """The target's logit exceeds the others' by the margin: target up, those others down."""
    matrix = -np.eye(classes)[list(others)]
    matrix[:, target] = 1.0
    marks = np.zeros(classes)
    marks[list(others)], marks[target] = -1.0, 1.0
    return Goal(matrix, np.full(len(matrix), margin), marks)


def chain(
    tail: Tail,
    entry: np.ndarray,
    goal: Goal,
    *,
    signs: list[np.ndarray] | None = None,
    marking: bool = True,
    relaxed: bool = True,
    solver: str = "highs",
    seconds: float | None = None,
) -> PatchChain:
    """Middle-layer patch, reduced network, and so on until the first layer is patched.

    Args:
        tail: the fully connected layers.
        entry: ``(width,)``, their input.
        goal: on the logits.
        signs: phases of the layers' neurons, ±1; the input's own if left out.
        marking: let increment neurons only rise and decrement neurons only fall.
        relaxed: the values of a patched layer become bounds rather than equations.
        solver, seconds: for ``solve``.
    """
    inputs, values = tail.values(entry)
    signs = [np.where(z >= 0, 1.0, -1.0) for z in values] if signs is None else signs
    top, patches = len(tail), list[EdgeLayerPatch]()
    while True:
        layer = (top + 1) // 2
        step = _PatchStep(tail, inputs, values, signs, layer, top)
        patch, status = step.patch(goal, marking, solver, seconds)
        marks = step.marks(goal)
        if patch is None:
            return PatchChain(tuple(patches), status, values[0], marks)
        patches.append(patch)
        reached = values[layer - 1] + patch.change
        if layer == 1:
            return PatchChain(tuple(patches), _overall(patches), reached, marks)
        top, goal = layer, _met(reached, sides(patch.change, marks), marks, relaxed)


def _overall(patches: list[EdgeLayerPatch]) -> SolverStatus:
    met = all(patch.missed <= _EXACT for patch in patches)
    return SolverStatus.OPTIMAL if met else SolverStatus.INFEASIBLE


def sides(change: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """±1: which way a value may go beyond its target: as it changed; unchanged, as it is marked."""
    return np.where(np.abs(change) > _EXACT, np.sign(change), np.where(marks >= 0, 1.0, -1.0))


def _met(values: np.ndarray, ways: np.ndarray, marks: np.ndarray, relaxed: bool) -> Goal:
    """The next goal: these values, or beyond them."""
    matrix, right = np.diag(ways), ways * values
    if not relaxed:
        matrix, right = np.vstack([matrix, -matrix]), np.concatenate([right, -right])
    return Goal(matrix, right, marks)


class _PatchStep:
    """One call of the paper's ``modifyEdgeLayer``: a layer of the network that ends at ``top``."""

    def __init__(
        self,
        tail: Tail,
        inputs: list[np.ndarray],
        values: list[np.ndarray],
        signs: list[np.ndarray],
        layer: int,
        top: int,
    ) -> None:
        self._tail, self._layer, self._top, self._signs = tail, layer, top, signs
        self._inputs, self._values = inputs[layer - 1], values[layer - 1]

    def marks(self, goal: Goal) -> np.ndarray:
        """The goal's marks led back through the weights, by the sign of their weighted sum."""
        marks = goal.marks
        for layer in range(self._top, self._layer, -1):
            marks = np.sign(self._tail.weights[layer - 1].T @ marks)
        return marks

    def patch(
        self, goal: Goal, marking: bool, solver: str, seconds: float | None
    ) -> tuple[EdgeLayerPatch | None, SolverStatus]:
        """The patch with the smallest ``max |ε|``, among those with the least ``Σ|Δ|``."""
        reach = float(np.abs(self._inputs).sum())
        if reach == 0.0:
            return None, SolverStatus.INFEASIBLE
        matrix, right = self._constraints(goal)
        right = right - matrix @ self._values
        n = len(self._values)
        lower, upper = np.full(n, -np.inf), np.full(n, np.inf)
        if marking:
            marks = self.marks(goal)
            lower, upper = np.where(marks > 0, 0.0, lower), np.where(marks < 0, 0.0, upper)
        best = solve(_least_maximum(matrix, right, lower, upper), solver=solver, seconds=seconds)
        if not best.status.found:
            return None, best.status
        most, missed = (float(value) for value in best.x[n:])
        most = most * (1 + 1e-9) + 1e-12
        bounds = np.maximum(lower, -most), np.minimum(upper, most)
        least = right - (missed * (1 + 1e-9) + 1e-12 if missed > _EXACT else 0.0)
        tidy = solve(_least_sum(matrix, least, *bounds), solver=solver, seconds=seconds)
        change = tidy.x[:n] - tidy.x[n:] if tidy.status.found else best.x[:n]
        largest = float(np.abs(change).max()) / reach
        return EdgeLayerPatch(
            self._layer, change, largest, missed, self._inputs
        ), SolverStatus.OPTIMAL

    def _constraints(self, goal: Goal) -> tuple[np.ndarray, np.ndarray]:
        """Goal and phases as ``matrix @ z >= right`` on the patched layer's values z."""
        matrices, rights = [], []
        slope, shift = np.eye(len(self._values)), np.zeros(len(self._values))
        for layer in range(self._layer, self._top):
            signs = self._signs[layer - 1]
            matrices.append(signs[:, None] * slope)
            rights.append(-signs * shift)
            active = (signs > 0).astype(np.float64)
            weight, bias = self._tail.weights[layer], self._tail.biases[layer]
            slope, shift = weight @ (active[:, None] * slope), weight @ (active * shift) + bias
        matrices.append(goal.matrix @ slope)
        rights.append(goal.right - goal.matrix @ shift)
        return np.vstack(matrices), np.concatenate(rights)


def _least_maximum(
    matrix: np.ndarray, right: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> Problem:
    """Minimise M with ``|Δ_i| <= M`` (a common factor S changes nothing); variables (Δ, M, slack).

    The slack lets every row be missed by the same amount, at a price that M never outweighs where
    the rows can be met.
    """
    n = matrix.shape[1]
    ones, none = np.ones((n, 1)), np.zeros((n, 1))
    block, low, high = rows(
        (np.hstack([matrix, np.zeros((len(matrix), 1)), np.ones((len(matrix), 1))]), right, np.inf),
        (np.hstack([np.eye(n), -ones, none]), -np.inf, 0.0),
        (np.hstack([np.eye(n), ones, none]), 0.0, np.inf),
    )
    cost = np.zeros(n + 2)
    cost[n:] = 1.0, _SLACK
    lower, upper = np.append(lower, [0.0, 0.0]), np.append(upper, [np.inf, np.inf])
    return Problem(cost, lower, upper, block, low, high)


def _least_sum(
    matrix: np.ndarray, right: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> Problem:
    """Minimise ``Σ|Δ_i|`` within the bounds; variables (Δ⁺, Δ⁻)."""
    n = matrix.shape[1]
    most = np.concatenate([np.maximum(upper, 0.0), np.maximum(-lower, 0.0)])
    return Problem(
        np.ones(2 * n),
        np.zeros(2 * n),
        most,
        np.hstack([matrix, -matrix]),
        right,
        np.full(len(right), np.inf),
    )
