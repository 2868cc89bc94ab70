"""Values that the first layer could have, with which the network says what it is wanted to say.

Where the first layer's weights may change, its values z_1 are free, and so are what all later
layers make of them. Such values, and the phases that they give the network, are an assignment of
targets that every layer can reach: the first one's patch makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from suture.attacks.aigent.affine import Span, onwards, signs_of
from suture.attacks.aigent.encoding import encode
from suture.attacks.aigent.goals import EXACT, Goal
from suture.attacks.aigent.tail import Tail
from suture.solvers import Growing, Problem, SolverStatus, rows, solve
from suture.solvers.ordering import largest

_SLACK = 1e4
_FEW = 25
_ASSIGNMENTS = 12
_GRID = 9
_WALK, _FARTHER = 50, 1.05
_UNITS = 40
"""Neurons up to which all phases are searched where nothing else finds values."""
_STEPS = np.linspace(0.05, 1.0, 20)

Left = Callable[[], float | None]


@dataclass(frozen=True, eq=False)
class FirstValues:
    """Where the search for values of the first layer begins, and what they may be.

    Attributes:
        tail: the layers.
        start: z_1 ``(neurons,)`` of the input.
        lower, upper: ``(neurons,)``, between which an input can bring them; infinite if not known.
        goal: on the logits.
    """

    tail: Tail
    start: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    goal: Goal

    def short(self, values: np.ndarray) -> float:
        """By how much the network misses the goal with these values of its first layer."""
        return self.goal.short(onwards(self.tail, values)[-1])


def in_own_phases(first: FirstValues, left: Left = lambda: None) -> SolverStatus:
    """Whether any values meet the goal in the phases of ``start``; INFEASIBLE is a proof."""
    program = _Region(first, first.start, soft=False)
    program.hold(np.arange(len(program.span.least)))
    return program.solve(left())[1]


def assignment(first: FirstValues, left: Left = lambda: None) -> tuple[np.ndarray | None, int]:
    """Values z_1 near ``start`` with which the network itself meets the goal, and programs solved.

    First by steps of the least largest change along the gradient. Where they do not lead there,
    programs in the phases of one point, the broken ones as rows; then in those of the best point
    on the way. Last from the point that single values lead to, one after another; ``None`` if all
    fail.
    """
    values = _walked(first)
    if values is not None:
        return values, 0
    values, programs = _chased(first, first.start, left)
    if values is not None:
        return values, programs
    base = _climbed(first)
    if base is None:
        return None, programs
    values, more = _chased(first, base, left)
    return base if values is None else values, programs + more


def small(first: FirstValues) -> bool:
    """Whether ``exact_assignment`` is worth its time."""
    units = sum(len(bias) for bias in first.tail.biases[:-1])
    return units <= _UNITS and bool(np.isfinite(first.upper - first.lower).all())


def _walked(first: FirstValues) -> np.ndarray | None:
    """DeepFool's steps (Moosavi-Dezfooli et al. 2016) for the L∞ norm: ``gap / |g|₁`` each way."""
    base = first.start
    for _ in range(_WALK):
        layers = onwards(first.tail, base)
        gaps = first.goal.right - first.goal.matrix @ layers[-1]
        worst = int(gaps.argmax())
        if gaps[worst] <= 0.0:
            return _nearer(first, base)
        gradient = first.goal.matrix[worst]
        for weight, below in zip(first.tail.weights[:0:-1], layers[-2::-1], strict=True):
            gradient = (gradient @ weight) * (below > 0)
        total = np.abs(gradient).sum()
        if total == 0.0:
            return None
        step = base + _FARTHER * gaps[worst] / total * np.sign(gradient)
        moved = np.clip(step, first.lower, first.upper)
        if np.array_equal(moved, base):
            return None
        base = moved
    return None


def _nearer(first: FirstValues, far: np.ndarray) -> np.ndarray:
    """The first point of a grid on the way from ``start`` that meets the goal."""
    tries = first.start + _STEPS[:, None] * (far - first.start)
    outputs = onwards(first.tail, tries)[-1]
    good = (first.goal.right - outputs @ first.goal.matrix.T).max(1) <= 0.0
    return tries[int(good.argmax())] if good.any() else far


def _chased(first: FirstValues, base: np.ndarray, left: Left) -> tuple[np.ndarray | None, int]:
    programs = 0
    for _ in range(_ASSIGNMENTS):
        values, solves = _settled(first, base, left)
        programs += solves
        if values is None or first.short(values) <= EXACT:
            return values, programs
        tries = [base + step * (values - base) for step in _STEPS]
        shorts = [first.short(one) for one in tries]
        best = int(np.argmin(shorts))
        if shorts[best] <= EXACT or shorts[best] >= first.short(base):
            return (tries[best] if shorts[best] <= EXACT else None), programs
        base = tries[best]
    return None, programs


def _climbed(first: FirstValues) -> np.ndarray | None:
    """One value after another set to where the network helps most, until it meets the goal."""
    far = 2.0 * max(1.0, float(np.abs(first.start).max()))
    low = np.where(np.isfinite(first.lower), first.lower, first.start - far)
    high = np.where(np.isfinite(first.upper), first.upper, first.start + far)
    grid = np.linspace(low, high, _GRID)
    n, base, short = len(first.start), first.start, first.short(first.start)
    for _ in range(2 * n):
        tries = np.tile(base, (_GRID * n, 1))
        tries[np.arange(len(tries)), np.tile(np.arange(n), _GRID)] = grid.ravel()
        outputs = onwards(first.tail, tries)[-1]
        shorts = (first.goal.right - outputs @ first.goal.matrix.T).max(1)
        best = int(shorts.argmin())
        if shorts[best] >= short:
            return None
        base, short = tries[best], float(shorts[best])
        if short <= EXACT:
            return base
    return None


def _settled(first: FirstValues, base: np.ndarray, left: Left) -> tuple[np.ndarray | None, int]:
    """The program in the phases of ``base``, with rows for phases as they break."""
    program, found = _Region(first, base, soft=True), None
    while True:
        values, _ = program.solve(left())
        if values is None:
            return found, program.solves
        found = values
        if first.short(values) <= EXACT or not program.tighten(values):
            return found, program.solves


class _Region:
    """The goal and phases of ``base`` on z_1; variables (Δ⁺, Δ⁻, slack)."""

    def __init__(self, first: FirstValues, base: np.ndarray, soft: bool) -> None:
        tail, goal = first.tail, first.goal
        signs = signs_of(onwards(tail, base))
        self.span = Span.of(tail, signs, 1, len(tail))
        self._first, self._free = first, np.ones(len(self.span.least), dtype=bool)
        n, room = len(base), np.inf if soft else 0.0
        upper = np.concatenate([first.upper - first.start, first.start - first.lower, [room]])
        cost = np.append(np.ones(2 * n), _SLACK)
        self._program = Growing(cost, np.zeros(2 * n + 1), np.maximum(upper, 0.0))
        matrix = goal.matrix @ self.span.slope
        self._add(matrix, goal.right - goal.matrix @ self.span.shift, 1.0)

    @property
    def solves(self) -> int:
        return self._program.solves

    def _add(self, matrix: np.ndarray, least: np.ndarray, slack: float) -> None:
        wide = np.hstack([matrix, -matrix, np.full((len(matrix), 1), slack)])
        self._program.add(wide, least - matrix @ self._first.start, np.full(len(least), np.inf))

    def hold(self, chosen: np.ndarray) -> None:
        self._free[chosen] = False
        self._add(self.span.phases[chosen], self.span.least[chosen], 0.0)

    def tighten(self, values: np.ndarray) -> bool:
        """The most broken phases become rows; whether there were any."""
        broken = np.where(self._free, self.span.least - self.span.phases @ values, -np.inf)
        chosen = largest(broken, _FEW)
        chosen = chosen[broken[chosen] > EXACT]
        if len(chosen):
            self.hold(chosen)
        return bool(len(chosen))

    def solve(self, seconds: float | None) -> tuple[np.ndarray | None, SolverStatus]:
        found = self._program.solve(seconds)
        if not found.status.found:
            return None, found.status
        plus, minus = np.split(found.x[:-1], 2)
        return self._first.start + plus - minus, found.status


def exact_assignment(
    first: FirstValues, seconds: float | None = None
) -> tuple[np.ndarray | None, SolverStatus]:
    """Values z_1 nearest to ``start`` (largest difference) in any phases; INFEASIBLE is a proof.

    A mixed-integer program (``encode``): for small networks. The values' bounds must be finite.
    """
    tail, goal, n = first.tail, first.goal, len(first.start)
    code = encode(tail, 1, first.lower, first.upper)
    further = len(code.lower)
    unit, one = sparse.eye_array(n), np.ones((n, 1))
    none = sparse.csr_array((n, further))
    reach = goal.matrix @ code.outputs
    last = sparse.csr_array((reach.shape[0], 1))
    parts = rows(
        (sparse.hstack([code.matrix, sparse.csr_array((code.matrix.shape[0], 1))]), 0.0, 0.0),
        (sparse.hstack([reach, last]), goal.right - goal.matrix @ code.shift, np.inf),
        (sparse.hstack([unit, none, -one]), -np.inf, first.start),
        (sparse.hstack([unit, none, one]), first.start, np.inf),
    )
    matrix, low, high = parts
    low[: len(code.row_lower)], high[: len(code.row_upper)] = code.row_lower, code.row_upper
    found = solve(
        Problem(
            np.append(np.zeros(n + further), 1.0),
            np.concatenate([first.lower, code.lower, [0.0]]),
            np.concatenate([first.upper, code.upper, [np.inf]]),
            matrix,
            low,
            high,
            np.concatenate([np.zeros(n, dtype=bool), code.integer, [False]]),
        ),
        seconds=seconds,
    )
    return (found.x[:n] if found.status.found else None), found.status
