"""One entry: the solver by name, its fallback, and a check of what it says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from suture.errors import ArgumentError, unknown_name
from suture.solvers import gurobi, highs, scip
from suture.solvers.limits import Limits
from suture.solvers.problem import Problem
from suture.solvers.solution import Solution, SolverStatus, Unusable

Solver = Literal["highs", "gurobi", "scip"]
"""Who solves linear and mixed-integer programs: HiGHS always, the others where installed."""
SOLVERS: Mapping[str, Callable[[Problem, Limits], Solution]] = {
    "highs": highs.solve,
    "gurobi": gurobi.solve,
    "scip": scip.solve,
}
"""Name → ``solve(problem, limits)``."""
TOLERANCE = 1e-5
"""How far an answer may break a constraint, relative to the size of its numbers."""


def solve(
    problem: Problem,
    *,
    solver: str = "highs",
    seconds: float | None = None,
    gap: float = 1e-6,
    threads: int = 1,
    interior: bool = False,
) -> Solution:
    """Minimise; no solver is believed, the answer is put into the constraints again.

    Args:
        problem: what to solve.
        solver: "highs", "gurobi" or "scip". One that is missing, or whose licence does not
            suffice, is replaced by HiGHS, and ``notes`` of the solution says so.
        seconds: wall time, ``None`` for no limit.
        gap: relative gap at which a mixed-integer solve may stop.
        threads: the solver's own threads.
        interior: HiGHS's interior-point method in place of its simplex, for large linear programs.

    Raises:
        ArgumentError: an unknown solver, or limits that make no sense.
    """
    if solver not in SOLVERS:
        raise ArgumentError(
            expected=f"a solver out of {', '.join(SOLVERS)}",
            got=unknown_name("solver", solver, tuple(SOLVERS)),
            remedy="Leave it out for HiGHS.",
        )
    limits = Limits(seconds=seconds, gap=gap, threads=threads, interior=interior)
    if not len(problem.cost):
        return _without_variables(problem)
    try:
        found = SOLVERS[solver](problem, limits)
    except Unusable as reason:
        found = highs.solve(problem, limits)
        note = f"{reason} HiGHS solved it instead."
        found = dataclasses.replace(found, notes=(note, *found.notes))
    return _checked(problem, found)


def _without_variables(problem: Problem) -> Solution:
    holds = bool(((problem.row_lower <= 0) & (problem.row_upper >= 0)).all())
    status = SolverStatus.OPTIMAL if holds else SolverStatus.INFEASIBLE
    value = 0.0 if holds else np.inf
    return Solution(status, np.zeros(0), value, 0.0, 0.0, "no solver")


def _checked(problem: Problem, found: Solution) -> Solution:
    """The solution as it is, or FAILED if it breaks a constraint."""
    if not found.status.found:
        return found
    size = max(1.0, float(np.abs(found.x).max(initial=0.0)))
    broken = problem.violation(found.x)
    if np.isfinite(found.x).all() and broken <= TOLERANCE * size:
        return found
    note = f"{found.solver} gave an answer that breaks a constraint by {broken:.3g}."
    return dataclasses.replace(
        found,
        status=SolverStatus.FAILED,
        x=np.full(len(problem.cost), np.nan),
        incumbent=np.inf,
        bound=-np.inf,
        notes=(*found.notes, note),
    )
