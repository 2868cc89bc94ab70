"""Gurobi, where gurobipy is installed; its free licence stops at 2 000 variables or rows."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np

from suture.solvers.limits import Limits
from suture.solvers.problem import Problem
from suture.solvers.solution import Solution, SolverStatus, Unusable, nothing


def solve(problem: Problem, limits: Limits) -> Solution:
    """The best solution Gurobi finds within the limits.

    Raises:
        Unusable: not installed, no licence, or a licence too small for the problem.
    """
    started = time.perf_counter()
    package = _package()
    try:
        model, x = _model(package, problem, limits)
        model.optimize()
        if model.Status == package.GRB.INF_OR_UNBD:
            model.Params.DualReductions = 0
            model.optimize()
    except package.GurobiError as error:
        raise Unusable(f"Gurobi refused the problem: {error}.") from error
    return _read(package, problem, model, x, time.perf_counter() - started)


def _package() -> Any:
    try:
        import gurobipy
    except ImportError:
        raise Unusable("gurobipy is not installed: pip install 'suture[gurobi]'.") from None
    return gurobipy


@cache
def _environment() -> Any:
    package = _package()
    environment = package.Env(empty=True)
    environment.setParam("OutputFlag", 0)
    environment.start()
    return environment


def _model(package: Any, problem: Problem, limits: Limits) -> tuple[Any, Any]:
    model = package.Model(env=_environment())
    model.Params.Threads, model.Params.MIPGap = limits.threads, limits.gap
    if limits.seconds is not None:
        model.Params.TimeLimit = limits.seconds
    kinds = np.where(problem.integer, package.GRB.INTEGER, package.GRB.CONTINUOUS)
    x = model.addMVar(
        len(problem.cost), lb=problem.lower, ub=problem.upper, obj=problem.cost, vtype=kinds
    )
    for side, sense in ((problem.row_lower, ">"), (problem.row_upper, "<")):
        kept = np.isfinite(side)
        if kept.any():
            model.addMConstr(problem.matrix[kept.nonzero()[0]], x, sense, side[kept])
    return model, x


def _read(package: Any, problem: Problem, model: Any, x: Any, seconds: float) -> Solution:
    grb, n = package.GRB, len(problem.cost)
    name = "Gurobi " + ".".join(map(str, package.gurobi.version()))
    ends = {
        grb.OPTIMAL: SolverStatus.OPTIMAL,
        grb.INFEASIBLE: SolverStatus.INFEASIBLE,
        grb.UNBOUNDED: SolverStatus.UNBOUNDED,
        grb.TIME_LIMIT: SolverStatus.OUT_OF_TIME,
    }
    status = ends.get(model.Status, SolverStatus.FAILED)
    bound = float(model.ObjBound) if problem.is_mixed else -np.inf
    if status is SolverStatus.OUT_OF_TIME and model.SolCount:
        status = SolverStatus.FEASIBLE
    if not status.found:
        return nothing(status, n, seconds, name, bound)
    found = np.asarray(x.X, dtype=np.float64)
    value = problem.value(found)
    bound = bound if problem.is_mixed or status is not SolverStatus.OPTIMAL else value
    return Solution(status, found, value, min(bound, value), seconds, name)
