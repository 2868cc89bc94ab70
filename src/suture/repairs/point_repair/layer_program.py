"""The linear program of PRDNN and APRNN: one layer's weights and bias, perhaps later biases.

Unknowns are the changes θ of the parameters. All inputs share them; an input meets the weights
through the change ``Δ = ΔW (a, 1)`` of the layer's values, which are variables of its own. Rows for
phases are added as they break, until none is broken: the optimum is that of the whole program.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from suture.repairs.point_repair.sensitivity import Sensitivity
from suture.solvers import Problem, Solution, SolverStatus, rows, solve

_AT_ONCE = 20
"""Broken phases that become rows at a time, for each input."""
_LARGE = 6000
"""Rows from which on the interior-point method is quicker."""
_BROKEN = 1e-6
"""By how much a phase must be missed to become a row; the solver's tolerance is 1e-7."""


@dataclass(frozen=True, eq=False)
class LayerDemand:
    """One input: ``matrix @ outputs >= right``."""

    local: Sensitivity
    matrix: np.ndarray
    right: np.ndarray


@dataclass(frozen=True, eq=False)
class LayerWish:
    """What is minimised, and within what.

    The cost is ``max |v| + mean |v|`` over the entries v of θ, and of the changes of all inputs'
    outputs where ``outputs`` says so.

    Attributes:
        phases: whether inputs must keep their phases.
        outputs: whether changes of outputs count.
        most: largest change of a parameter.
        seconds: wall time, ``None`` for no limit.
    """

    phases: bool
    outputs: bool
    most: float
    solver: str = "highs"
    seconds: float | None = None


@dataclass(frozen=True, eq=False)
class LayerChange:
    """What the program found.

    Attributes:
        status: OPTIMAL with a change.
        weights: ``(out, in + 1)``, of the layer's weights and bias; zeros where there is none.
        later: changes of later biases, one after the other.
        cost: the objective.
        programs: how many were solved.
    """

    status: SolverStatus
    weights: np.ndarray
    later: np.ndarray
    cost: float
    programs: int


class LayerProgram:
    """``LayerProgram(demands, out, wish).solve()``.

    Args:
        demands: at least one.
        out: how many values the layer has.
        wish: what is minimised.
    """

    def __init__(self, demands: Sequence[LayerDemand], out: int, wish: LayerWish) -> None:
        self._demands, self._wish, self._out = demands, wish, out
        local = demands[0].local
        self._in, self._later = len(local.inputs), local.slope.shape[1] - out
        self._kept = [np.zeros(len(d.local.least), dtype=bool) for d in demands]
        changed = sum(len(d.local.outputs) for d in demands) if wish.outputs else 0
        moved = len(demands) * out
        self._theta = out * self._in + self._later
        self._widths = (self._theta, self._theta, changed, changed, 1, moved)
        self._changes = sparse.vstack(
            [sparse.kron(sparse.eye_array(out), d.local.inputs[None]) for d in demands],
            format="csr",
        )

    def solve(self) -> LayerChange:
        """The smallest change that meets all demands, in the inputs' phases."""
        started, programs = time.monotonic(), 0
        while True:
            left = self._left(started)
            if left == 0.0:
                return self._nothing(SolverStatus.OUT_OF_TIME, programs)
            problem = self._problem()
            found = solve(
                problem,
                solver=self._wish.solver,
                seconds=left,
                interior=len(problem.row_lower) > _LARGE,
            )
            programs += 1
            if not found.status.found:
                return self._nothing(found.status, programs)
            if not (self._wish.phases and self._extend(found)):
                return self._change(found, programs)

    def _left(self, started: float) -> float | None:
        limit = self._wish.seconds
        return None if limit is None else max(0.0, limit - (time.monotonic() - started))

    def _parts(self, found: Solution) -> tuple[np.ndarray, np.ndarray]:
        flat = found.x[: self._theta] - found.x[self._theta : 2 * self._theta]
        split = self._out * self._in
        return flat[:split].reshape(self._out, self._in), flat[split:]

    def _change(self, found: Solution, programs: int) -> LayerChange:
        weights, later = self._parts(found)
        return LayerChange(found.status, weights, later, found.incumbent, programs)

    def _nothing(self, status: SolverStatus, programs: int) -> LayerChange:
        weights = np.zeros((self._out, self._in))
        return LayerChange(status, weights, np.zeros(self._later), np.inf, programs)

    def _extend(self, found: Solution) -> bool:
        """The phases that each input broke most become rows; whether there were any."""
        weights, later = self._parts(found)
        added = False
        for demand, kept in zip(self._demands, self._kept, strict=True):
            x = np.concatenate([weights @ demand.local.inputs, later])
            short = np.where(kept, 0.0, demand.local.least - demand.local.phases @ x)
            chosen = np.argsort(-short)[:_AT_ONCE]
            chosen = chosen[short[chosen] > _BROKEN]
            kept[chosen] = True
            added |= bool(len(chosen))
        return added

    def _problem(self) -> Problem:
        """Variables (θ⁺, θ⁻; o⁺, o⁻, the outputs' changes; M; Δ of every input)."""
        theta, _, changed, _, _, moved = self._widths
        unit, outputs = sparse.eye_array(theta), sparse.eye_array(changed)
        matrix, least = self._demanded()
        local = [d.local for d in self._demands]
        shown, later = self._on_inputs([one.slope for one in local])
        parts = [
            (matrix, least, np.inf),
            (self._wide({0: self._under(), 1: -self._under(), 5: -sparse.eye_array(moved)}), 0, 0),
            (self._wide({0: unit, 1: unit, 4: -np.ones((theta, 1))}), -np.inf, 0.0),
        ]
        if changed:
            tie = {2: outputs, 3: outputs, 4: -np.ones((changed, 1))}
            same = {0: later, 1: -later, 2: -outputs, 3: outputs, 5: shown}
            parts += [(self._wide(tie), -np.inf, 0.0), (self._wide(same), 0.0, 0.0)]
        mean = 1.0 / (theta + changed)
        cost = np.concatenate([np.full(2 * (theta + changed), mean), [1.0], np.zeros(moved)])
        upper = np.full(len(cost), np.inf)
        upper[: 2 * theta] = self._wish.most
        lower = np.concatenate([np.zeros(len(cost) - moved), np.full(moved, -np.inf)])
        return Problem(cost, lower, upper, *rows(*parts))

    def _demanded(self) -> tuple[sparse.csr_array, np.ndarray]:
        """Demands of all inputs and the phases that are rows by now."""
        blocks, least = [], []
        for demand, kept in zip(self._demands, self._kept, strict=True):
            local = demand.local
            blocks.append(np.vstack([demand.matrix @ local.slope, local.phases[kept]]))
            missing = demand.right - demand.matrix @ local.outputs
            least.append(np.concatenate([missing, local.least[kept]]))
        shown, later = self._on_inputs(blocks)
        return self._wide({0: later, 1: -later, 5: shown}), np.concatenate(least)

    def _on_inputs(self, blocks: list[np.ndarray]) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Rows on each input's own x, as rows on all inputs' Δ and as rows on θ (later biases)."""
        shown = sparse.block_diag([block[:, : self._out] for block in blocks], format="csr")
        tall = np.vstack([block[:, self._out :] for block in blocks])
        empty = sparse.csr_array((len(tall), self._out * self._in))
        return shown, sparse.hstack([empty, sparse.csr_array(tall)], format="csr")

    def _under(self) -> sparse.csr_array:
        """What θ does to the values of all inputs: ``Δ = ΔW (a, 1)``."""
        empty = sparse.csr_array((self._changes.shape[0], self._later))
        return sparse.hstack([self._changes, empty], format="csr")

    def _wide(self, blocks: dict[int, sparse.csr_array]) -> sparse.csr_array:
        """Rows with the given blocks, zero under all other groups of variables."""
        height = next(iter(blocks.values())).shape[0]
        parts = [
            blocks.get(place, sparse.csr_array((height, width)))
            for place, width in enumerate(self._widths)
        ]
        return sparse.hstack(parts, format="csr")
