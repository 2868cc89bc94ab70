"""The smallest change of one layer's weights, as a linear or mixed-integer program.

Unknown is ε, one number a weight. An input with values a before the layer and z after it has
``z' = z + ε a``; with its phases fixed the outputs are ``slope z' + shift``, so that a demand and
the phases are rows on ε. All inputs share the same ε. Rows are added as they are needed: the
demands of inputs that the patched network gets wrong, then the phases that it broke for them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import sparse

from suture.attacks.aigent.tail import Tail
from suture.repairs.weight_patch.evaluation import Local, Patched
from suture.repairs.weight_patch.points import Point, met
from suture.solvers import Problem, Solution, SolverStatus, rows, solve

Size = Literal["linf", "l1", "both", "count"]
_FEW = 10
"""Broken phases that become rows at a time, for each input."""
_NOTHING = 1e-9
"""Changes below this are the solver's rounding."""
_REWEIGHTINGS = 4
_REACH = 1e3
"""Largest change of a weight where weights are counted and no limit is given."""


@dataclass(frozen=True)
class Wish:
    """What a patch should be like.

    Args:
        size: what is minimised: "linf" the largest change, then the sum; "l1" the sum; "both" the
            largest plus the mean (as PRDNN does); "count" the number of changed weights.
        max_change: largest change of a weight.
        exact: for "count": the mixed-integer program instead of reweighted sums.
        decoupled: the original weights go on deciding the phases.
        phases: "fixed" to the inputs', or "free" (see ``phase_free.smallest_patch``).
        rounds: programs at most.
        solver: "highs", "gurobi" or "scip".
        seconds: wall time, ``None`` for no limit.
    """

    size: Size = "linf"
    max_change: float = np.inf
    exact: bool = False
    decoupled: bool = False
    phases: Literal["fixed", "free"] = "fixed"
    rounds: int = 60
    solver: str = "highs"
    seconds: float | None = None


@dataclass(frozen=True, eq=False)
class LayerPatch:
    """A patch of one layer and how it was found.

    Attributes:
        layer: 1 … L.
        status: OPTIMAL or FEASIBLE with a patch; INFEASIBLE if none exists in the inputs' phases.
        change: ε ``(out, in)``; zeros where there is none.
        met: bool ``(points,)``, which demands the patched network meets.
        incumbent, bound, gap: of the last program.
        seconds: wall time.
        programs: how many were solved.
        notes: what solvers said.
    """

    layer: int
    status: SolverStatus
    change: np.ndarray
    met: np.ndarray
    incumbent: float
    bound: float
    gap: float
    seconds: float
    programs: int
    notes: tuple[str, ...] = ()

    @property
    def largest(self) -> float:
        """``max |ε|``."""
        return float(np.abs(self.change).max(initial=0.0))

    @property
    def total(self) -> float:
        """``Σ |ε|``."""
        return float(np.abs(self.change).sum())

    @property
    def count(self) -> int:
        """How many weights change."""
        return int((self.change != 0).sum())


def patch_layer(tail: Tail, layer: int, points: Sequence[Point], wish: Wish) -> LayerPatch:
    """The smallest patch of a layer with which the network meets the points' demands.

    Points with a finite price may be missed at that price; the others must be met, or the status
    is INFEASIBLE. "Smallest" is so in the phases that became rows: fewer rows than the inputs'
    full phases, so never larger than the program with all of them allows.
    """
    return _Work(tail, layer, points, wish).run()


class _Work:
    def __init__(self, tail: Tail, layer: int, points: Sequence[Point], wish: Wish) -> None:
        self._tail, self._layer, self._points, self._wish = tail, layer, points, wish
        self._started = time.perf_counter()
        self._shape = tail.weights[layer - 1].shape
        self._local = [Local.of(tail, layer, point.entry) for point in points]
        self._entries = np.stack([point.entry for point in points])
        self._demanded = np.zeros(len(points), dtype=bool)
        self._free = [np.ones(len(one.least), dtype=bool) for one in self._local]
        self._used: dict[int, int] = {}
        self._blocks: list[np.ndarray] = []
        self._least: list[np.ndarray] = []
        self._owner: list[np.ndarray] = []
        self._weights = np.ones(int(np.prod(self._shape)))
        self._programs, self._notes = 0, dict[str, None]()

    def run(self) -> LayerPatch:
        change, found = self._converged(None)
        if found is None or not found.status.found:
            return self._result(change, found)
        if self._wish.size == "linf":
            most = float(np.abs(change).max()) * (1 + 1e-7) + 1e-10
            change, found = self._better(*self._converged(most), change, found)
        elif self._wish.size == "count" and not self._wish.exact:
            for _ in range(_REWEIGHTINGS):
                least = max(1e-12, float(np.abs(change).max()) * 1e-3)
                self._weights = 1.0 / (np.abs(change).ravel() / least + 1.0)
                change, found = self._better(*self._converged(None), change, found)
        return self._result(change, found)

    def _better(
        self, change: np.ndarray, found: Solution | None, old: np.ndarray, before: Solution
    ) -> tuple[np.ndarray, Solution]:
        usable = found is not None and found.status.found
        count = (change != 0).sum() <= (old != 0).sum() or self._wish.size != "count"
        return (change, found) if usable and count and found is not None else (old, before)

    def _converged(self, most: float | None) -> tuple[np.ndarray, Solution | None]:
        """Solve, see what the patched network says, add rows, until it agrees with the program."""
        change, found = np.zeros(self._shape), None
        self._extend(change)
        while self._programs < self._wish.rounds and self._left() != 0.0:
            found = solve(self._problem(most), solver=self._wish.solver, seconds=self._left())
            self._programs += 1
            self._notes.update(dict.fromkeys(found.notes))
            if not found.status.found:
                return np.zeros(self._shape), found
            change = self._change(found)
            if not self._extend(change):
                return change, found
        return change, None

    def _left(self) -> float | None:
        limit = self._wish.seconds
        return None if limit is None else max(0.0, limit - (time.perf_counter() - self._started))

    def _change(self, found: Solution) -> np.ndarray:
        n = len(self._weights)
        flat = found.x[:n] - found.x[n : 2 * n]
        return np.where(np.abs(flat) > _NOTHING, flat, 0.0).reshape(self._shape)

    def _extend(self, change: np.ndarray) -> bool:
        """Rows for demands that are not met; whether there were any to add."""
        patched = Patched(self._tail, self._layer, change, self._wish.decoupled)
        outputs, values = patched.outputs(self._entries)
        added = False
        for index in (~met(self._points, outputs)).nonzero()[0].tolist():
            if not self._demanded[index]:
                self._demand(index)
                added = True
            elif not self._wish.decoupled:
                added |= self._hold(index, [value[index] for value in values])
        return added

    def _demand(self, index: int) -> None:
        point, local = self._points[index], self._local[index]
        matrix = point.matrix @ local.slope
        self._add(index, matrix, point.right - point.matrix @ local.shift)
        self._demanded[index] = True

    def _hold(self, index: int, values: list[np.ndarray]) -> bool:
        """The phases that this input's values broke most become rows."""
        local, free = self._local[index], self._free[index]
        if not len(free):
            return False
        before = np.concatenate(
            self._tail.values(self._points[index].entry)[1][self._layer - 1 : -1]
        )
        signs = np.where(before > 0, 1.0, -1.0)
        broken = np.where(free, -signs * np.concatenate(values[self._layer - 1 : -1]), -np.inf)
        chosen = np.argsort(-broken)[:_FEW]
        chosen = chosen[broken[chosen] > 0]
        free[chosen] = False
        if len(chosen):
            self._add(index, local.phases[chosen], local.least[chosen])
        return bool(len(chosen))

    def _add(self, index: int, matrix: np.ndarray, least: np.ndarray) -> None:
        """Rows ``matrix @ (z + Δ) >= least`` of one input, with ``Δ = ε a`` variables of its own.

        An input's rows all meet the weights through these few variables.
        """
        if index not in self._used:
            self._used[index] = len(self._used)
        self._blocks.append(matrix)
        self._least.append(least - matrix @ self._local[index].values)
        self._owner.append(np.full(len(least), index))

    def _problem(self, most: float | None) -> Problem:
        """Variables (ε⁺, ε⁻, M; a slack for every input that may be missed; Δ of every input used;
        then counts)."""
        wish, n = self._wish, len(self._weights)
        soft = [i for i, point in enumerate(self._points) if np.isfinite(point.price)]
        exact = wish.size == "count" and wish.exact
        largest = wish.size in ("linf", "both") and most is None
        counted, moved = n if exact else 0, len(self._used) * self._shape[0]
        least = np.concatenate([np.zeros(0), *self._least])
        widths = (n, n, 1, len(soft), moved, counted)
        changes = self._changes()
        parts: list[tuple[Any, Any, Any]] = [
            (_wide(widths, {3: self._slacks(soft), 4: self._moves()}, len(least)), least, np.inf),
            (
                _wide(widths, {0: changes, 1: -changes, 4: -sparse.eye_array(moved)}, moved),
                0.0,
                0.0,
            ),
        ]
        unit = sparse.eye_array(n)
        if largest:
            tie = {0: unit, 1: unit, 2: -np.ones((n, 1))}
            parts.append((_wide(widths, tie, n), -np.inf, 0.0))
        if exact:
            reach = wish.max_change if np.isfinite(wish.max_change) else _REACH
            parts.append((_wide(widths, {0: unit, 1: unit, 5: -reach * unit}, n), -np.inf, 0.0))
        room = min(wish.max_change, np.inf if most is None else most)
        each = {"both": np.full(n, 1.0 / n), "linf": np.full(n, float(most is not None))}
        cost = np.zeros(n) if exact else each.get(wish.size, self._weights)
        prices = [self._points[i].price for i in soft]
        whole = np.ones(counted)
        free = np.full(moved, np.inf)
        costs = np.concatenate([cost, cost, [float(largest)], prices, np.zeros(moved), whole])
        upper = np.concatenate([np.full(2 * n, room), np.full(1 + len(soft), np.inf), free, whole])
        lower = np.concatenate([np.zeros(2 * n + 1 + len(soft)), -free, np.zeros(counted)])
        integer = np.concatenate([np.zeros(len(costs) - counted), whole]).astype(bool)
        return Problem(costs, lower, upper, *rows(*parts), integer)

    def _changes(self) -> Any:
        """What ε does to the values of each input used: ``Δ = ε a``, ``(used·out, weights)``."""
        unit = sparse.eye_array(self._shape[0])
        blocks = [sparse.kron(unit, self._local[index].inputs[None]) for index in self._used]
        empty = sparse.csr_array((0, len(self._weights)))
        return sparse.vstack([empty, *blocks], format="csr")

    def _moves(self) -> Any:
        """The rows on each input's own Δ."""
        out, blocks = self._shape[0], []
        for matrix, owner in zip(self._blocks, self._owner, strict=True):
            at = self._used[int(owner[0])] * out
            left = sparse.csr_array((len(matrix), at))
            right = sparse.csr_array((len(matrix), len(self._used) * out - at - out))
            blocks.append(sparse.hstack([left, matrix, right]))
        empty = sparse.csr_array((0, len(self._used) * out))
        return sparse.vstack([empty, *blocks], format="csr")

    def _slacks(self, soft: list[int]) -> Any:
        owners = np.concatenate([np.zeros(0, dtype=int), *self._owner])
        place = {point: column for column, point in enumerate(soft)}
        cells = [(row, place[owner]) for row, owner in enumerate(owners) if owner in place]
        at = tuple(np.array(cells, dtype=int).reshape(-1, 2).T)
        return sparse.csr_array((np.ones(len(cells)), at), shape=(len(owners), len(soft)))

    def _result(self, change: np.ndarray, found: Solution | None) -> LayerPatch:
        patched = Patched(self._tail, self._layer, change, self._wish.decoupled)
        good = met(self._points, patched.outputs(self._entries)[0])
        hard = np.array([not np.isfinite(point.price) for point in self._points])
        status = SolverStatus.OUT_OF_TIME if found is None else found.status
        if status.found and not good[hard].all():
            status = SolverStatus.FAILED
        return LayerPatch(
            layer=self._layer,
            status=status,
            change=change,
            met=good,
            incumbent=np.inf if found is None else found.incumbent,
            bound=-np.inf if found is None else found.bound,
            gap=np.inf if found is None else found.gap,
            seconds=time.perf_counter() - self._started,
            programs=self._programs,
            notes=tuple(self._notes),
        )


def _wide(widths: tuple[int, ...], blocks: dict[int, Any], height: int) -> Any:
    """Rows with the given blocks, zero under all other groups of variables."""
    empty = (sparse.csr_array((height, width)) for width in widths)
    parts = [blocks.get(place, zero) for place, zero in enumerate(empty)]
    return sparse.hstack(parts, format="csr")
