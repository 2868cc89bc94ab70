"""HiGHS (Huangfu & Hall 2018), through highspy's array interface."""

from __future__ import annotations

import math
import threading
import time
import weakref

import highspy
import numpy as np

from suture.solvers.limits import Limits
from suture.solvers.problem import Problem
from suture.solvers.solution import Solution, SolverStatus, nothing

_KIND = highspy.HighsModelStatus
_ENDS = {
    _KIND.kOptimal: SolverStatus.OPTIMAL,
    _KIND.kInfeasible: SolverStatus.INFEASIBLE,
    _KIND.kUnbounded: SolverStatus.UNBOUNDED,
    _KIND.kModelEmpty: SolverStatus.OPTIMAL,
    _KIND.kTimeLimit: SolverStatus.OUT_OF_TIME,
    _KIND.kIterationLimit: SolverStatus.OUT_OF_TIME,
    _KIND.kSolutionLimit: SolverStatus.OUT_OF_TIME,
    _KIND.kInterrupt: SolverStatus.OUT_OF_TIME,
}
SMALL = 20_000
"""Nonzeros below which presolve costs more than it saves (measured on the attack's programs)."""


def solve(problem: Problem, limits: Limits) -> Solution:
    """The best solution HiGHS finds within the limits."""
    started = time.perf_counter()
    presolve = problem.is_mixed or problem.matrix.nnz > SMALL
    model, status = _run(problem, limits, presolve)
    if status == _KIND.kUnboundedOrInfeasible:
        model, status = _run(problem, limits, False)
    return _read(
        problem, model, _ENDS.get(status, SolverStatus.FAILED), time.perf_counter() - started
    )


class _FreeModels(threading.local):
    """Emptied models of a thread: making one costs five times what a small program does."""

    def __init__(self) -> None:
        self._models = list[highspy.Highs]()

    def taken(self) -> highspy.Highs:
        """An empty model: silent, on one thread, without presolve."""
        if self._models:
            return self._models.pop()
        model = highspy.Highs()
        model.setOptionValue("output_flag", False)
        model.setOptionValue("threads", 1)
        model.setOptionValue("presolve", "off")
        return model

    def given_back(self, model: highspy.Highs) -> None:
        """Emptied for whoever asks next."""
        model.clearModel()
        model.setOptionValue("time_limit", math.inf)
        if len(self._models) < _SPARE:
            self._models.append(model)


_SPARE = 8
_FREE = _FreeModels()


class KeptModel:
    """A linear program that HiGHS keeps: rows are added, costs change, the basis stays.

    Args:
        cost, lower, upper: float64 ``(n,)``.
    """

    def __init__(self, cost: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        self._n, self._model = len(cost), _FREE.taken()
        weakref.finalize(self, _FREE.given_back, self._model)
        self._columns = np.arange(self._n, dtype=np.int32)
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = self._n, 0
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = cost, lower, upper
        self._model.passModel(lp)

    def add(self, matrix: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """Rows ``lower <= matrix @ x <= upper``, matrix ``(k, n)``."""
        k = len(matrix)
        row, column = matrix.nonzero()
        starts = np.searchsorted(row, np.arange(k)).astype(np.int32)
        values = matrix[row, column]
        index = column.astype(np.int32)
        self._model.addRows(k, lower, upper, len(values), starts, index, values)

    def widen(self, cost: np.ndarray, upper: np.ndarray, matrix: np.ndarray) -> None:
        """More variables from 0 to ``upper``, coefficients ``(rows, k)`` in the rows so far."""
        k = len(cost)
        column, row = matrix.T.nonzero()
        starts = np.searchsorted(column, np.arange(k)).astype(np.int32)
        index, values = row.astype(np.int32), matrix[row, column]
        lower = np.zeros(k)
        self._model.addCols(k, cost, lower, upper, len(values), starts, index, values)
        self._n += k
        self._columns = np.arange(self._n, dtype=np.int32)

    def change(self, cost: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """Another cost and other bounds of the variables, each ``(n,)``."""
        self._model.changeColsCost(self._n, self._columns, cost)
        self._model.changeColsBounds(self._n, self._columns, lower, upper)

    def solve(self, limits: Limits, cost: np.ndarray) -> Solution:
        """The optimum, from the last basis on; ``cost`` as it is now."""
        started = time.perf_counter()
        if limits.seconds is not None:
            spent = self._model.getRunTime()
            self._model.setOptionValue("time_limit", spent + float(limits.seconds))
        self._model.run()
        status = _ENDS.get(self._model.getModelStatus(), SolverStatus.FAILED)
        seconds, name = time.perf_counter() - started, f"HiGHS {self._model.version()}"
        answer = self._model.getSolution()
        if status is not SolverStatus.OPTIMAL or not answer.value_valid:
            return nothing(status, self._n, seconds, name, -np.inf)
        x = np.asarray(answer.col_value, dtype=np.float64)
        value = float(cost @ x)
        duals = np.asarray(answer.row_dual, dtype=np.float64)
        return Solution(status, x, value, value, seconds, name, duals=duals)


def _run(
    problem: Problem, limits: Limits, presolve: bool
) -> tuple[highspy.Highs, highspy.HighsModelStatus]:
    model = highspy.Highs()
    model.setOptionValue("output_flag", False)
    model.setOptionValue("threads", limits.threads)
    model.setOptionValue("presolve", "on" if presolve else "off")
    model.setOptionValue("mip_rel_gap", limits.gap)
    if limits.interior and not problem.is_mixed:
        model.setOptionValue("solver", "ipm")
    if limits.seconds is not None:
        model.setOptionValue("time_limit", float(limits.seconds))
    model.passModel(_model(problem))
    model.run()
    return model, model.getModelStatus()


def _model(problem: Problem) -> highspy.HighsLp:
    lp, matrix = highspy.HighsLp(), problem.matrix
    lp.num_col_, lp.num_row_ = len(problem.cost), len(problem.row_lower)
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = problem.cost, problem.lower, problem.upper
    lp.row_lower_, lp.row_upper_ = problem.row_lower, problem.row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = matrix.indptr, matrix.indices
    lp.a_matrix_.value_ = matrix.data
    if problem.is_mixed:
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        lp.integrality_ = [kinds[int(whole)] for whole in problem.integer]
    return lp


def _read(problem: Problem, model: highspy.Highs, status: SolverStatus, seconds: float) -> Solution:
    name, n = f"HiGHS {model.version()}", len(problem.cost)
    info = model.getInfo()
    bound = float(info.mip_dual_bound) if problem.is_mixed else -np.inf
    has = model.getSolution().value_valid and (
        info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    )
    if status is SolverStatus.OUT_OF_TIME and has:
        status = SolverStatus.FEASIBLE
    if not status.found:
        return nothing(status, n, seconds, name, bound)
    x = np.asarray(model.getSolution().col_value, dtype=np.float64)
    value, duals = problem.value(x), np.zeros(0)
    if not problem.is_mixed and status is SolverStatus.OPTIMAL:
        bound, duals = value, np.asarray(model.getSolution().row_dual, dtype=np.float64)
    return Solution(status, x, value, min(bound, value), seconds, name, duals=duals)
