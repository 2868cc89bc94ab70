"""SCIP, where pyscipopt is installed."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from suture.solvers.limits import Limits
from suture.solvers.problem import Problem
from suture.solvers.solution import Solution, SolverStatus, Unusable, nothing

_ENDS = {
    "optimal": SolverStatus.OPTIMAL,
    "gaplimit": SolverStatus.OPTIMAL,
    "infeasible": SolverStatus.INFEASIBLE,
    "unbounded": SolverStatus.UNBOUNDED,
    "timelimit": SolverStatus.OUT_OF_TIME,
}


def solve(problem: Problem, limits: Limits) -> Solution:
    """The best solution SCIP finds within the limits.

    Raises:
        Unusable: not installed.
    """
    started = time.perf_counter()
    model, variables = _model(_package(), problem, limits)
    model.optimize()
    if model.getStatus() == "inforunbd":
        model, variables = _model(_package(), problem, limits)
        model.setParam("presolving/maxrounds", 0)
        model.optimize()
    return _read(problem, model, variables, time.perf_counter() - started)


def _package() -> Any:
    try:
        import pyscipopt
    except ImportError:
        raise Unusable("pyscipopt is not installed: pip install 'suture[scip]'.") from None
    return pyscipopt


def _model(package: Any, problem: Problem, limits: Limits) -> tuple[Any, list[Any]]:
    model = package.Model()
    model.hideOutput()
    model.setParam("limits/gap", limits.gap)
    model.setParam("parallel/maxnthreads", limits.threads)
    if limits.seconds is not None:
        model.setParam("limits/time", float(limits.seconds))
    variables = [
        model.addVar(lb=_side(low), ub=_side(high), obj=cost, vtype="I" if whole else "C")
        for low, high, cost, whole in zip(
            problem.lower, problem.upper, problem.cost, problem.integer, strict=True
        )
    ]
    matrix = problem.matrix
    for row in range(matrix.shape[0]):
        at = slice(matrix.indptr[row], matrix.indptr[row + 1])
        terms = zip(matrix.indices[at], matrix.data[at], strict=True)
        total = package.quicksum(float(value) * variables[column] for column, value in terms)
        low, high = problem.row_lower[row], problem.row_upper[row]
        if np.isfinite(low):
            model.addCons(total >= float(low))
        if np.isfinite(high):
            model.addCons(total <= float(high))
    return model, variables


def _side(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _read(problem: Problem, model: Any, variables: list[Any], seconds: float) -> Solution:
    name, n = f"SCIP {model.version()}", len(problem.cost)
    status = _ENDS.get(model.getStatus(), SolverStatus.FAILED)
    bound = float(model.getDualbound())
    bound = bound if abs(bound) < model.infinity() else -np.inf
    if status is SolverStatus.OUT_OF_TIME and model.getNSols():
        status = SolverStatus.FEASIBLE
    if not status.found:
        return nothing(status, n, seconds, name, bound)
    best = model.getBestSol()
    x = np.array([model.getSolVal(best, variable) for variable in variables], dtype=np.float64)
    value = problem.value(x)
    return Solution(status, x, value, min(bound, value), seconds, name)
