"""Every solver against hand-made programs, enumeration, and its own bad days."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from suture.errors import ArgumentError
from suture.solvers import SOLVERS, Problem, Solution, SolverStatus, choosing, highs, rows, solve
from suture.solvers.limits import Limits
from suture.solvers.solution import Unusable

INF = np.inf
PACKAGES = {"highs": "highspy", "gurobi": "gurobipy", "scip": "pyscipopt"}


@pytest.fixture(params=SOLVERS)
def solver(request) -> str:
    reason = f"needs {PACKAGES[request.param]}: pip install 'suture[{request.param}]'"
    pytest.importorskip(PACKAGES[request.param], reason=reason)
    return request.param


def program(cost, matrix, low, high, lower=0.0, upper=INF, integer=()) -> Problem:
    n = len(cost)
    return Problem(
        np.array(cost, dtype=float),
        np.full(n, lower),
        np.full(n, upper),
        np.array(matrix, dtype=float),
        np.array(low, dtype=float),
        np.array(high, dtype=float),
        np.array(integer, dtype=bool),
    )


def test_a_linear_program_by_hand(solver: str):
    """max 3x + 5y, x <= 4, 2y <= 12, 3x + 2y <= 18: x = 2, y = 6, value 36 (Dantzig's example)."""
    made = program([-3, -5], [[1, 0], [0, 2], [3, 2]], [-INF] * 3, [4, 12, 18])
    found = solve(made, solver=solver)
    assert found.status is SolverStatus.OPTIMAL and found.notes == ()
    assert found.x == pytest.approx([2, 6])
    assert (found.incumbent, found.bound) == pytest.approx((-36, -36))
    assert found.gap == pytest.approx(0.0, abs=1e-9)


def test_the_interior_point_method_finds_the_same_corner():
    """The crossover ends in a corner; an integer program does not ask for it."""
    made = program([-3, -5], [[1, 0], [0, 2], [3, 2]], [-INF] * 3, [4, 12, 18])
    found = solve(made, interior=True)
    assert found.status is SolverStatus.OPTIMAL and found.x == pytest.approx([2, 6])
    whole = dataclasses.replace(made, integer=np.ones(2, dtype=bool))
    assert solve(whole, interior=True).x == pytest.approx([2, 6])


def test_multipliers_by_hand():
    """Of Dantzig's example: the first plant has hours to spare, the others are worth 3/2 and 1."""
    made = program([-3, -5], [[1, 0], [0, 2], [3, 2]], [-INF] * 3, [4, 12, 18])
    assert solve(made).duals == pytest.approx([0, -1.5, -1])
    assert not len(solve(dataclasses.replace(made, integer=np.ones(2, dtype=bool))).duals)


def test_a_knapsack_by_hand(solver: str):
    """Weights 5 4 3, values 10 7 5, room 8: the first and the last give 15."""
    made = program([-10, -7, -5], [[5, 4, 3]], [-INF], [8], upper=1.0, integer=[True] * 3)
    found = solve(made, solver=solver)
    assert found.x == pytest.approx([1, 0, 1]) and found.incumbent == pytest.approx(-15)
    relaxed = solve(dataclasses.replace(made, integer=np.zeros(3, dtype=bool)), solver=solver)
    assert relaxed.incumbent == pytest.approx(-15.25)


def test_no_solution(solver: str):
    found = solve(program([1], [[1], [1]], [2, -INF], [INF, 1]), solver=solver)
    assert found.status is SolverStatus.INFEASIBLE
    assert np.isnan(found.x).all() and found.incumbent == INF and found.gap == INF


def test_no_limit(solver: str):
    for integer in ([False, False], [True, False]):
        made = program([-1, 1], [[1, -1]], [-INF], [1], integer=integer)
        made = dataclasses.replace(made, cost=np.array([-1.0, 0.0]))
        assert solve(made, solver=solver).status is SolverStatus.UNBOUNDED


def hard(n: int = 200, m: int = 60) -> Problem:
    """Many items in many dense knapsacks: hours for any solver."""
    random = np.random.default_rng(0)
    weights = random.integers(1, 1000, (m, n)).astype(float)
    return Problem(
        -random.integers(1, 1000, n).astype(float),
        np.zeros(n),
        np.ones(n),
        weights,
        np.full(m, -INF),
        weights.sum(1) / 3,
        np.ones(n, dtype=bool),
    )


def test_time_runs_out_with_a_solution_in_hand(solver: str):
    found = solve(hard(), solver=solver, seconds=0.6)
    assert found.status is SolverStatus.FEASIBLE
    assert found.bound < found.incumbent < 0
    assert found.gap == pytest.approx((found.incumbent - found.bound) / abs(found.incumbent))
    assert hard().violation(found.x) < 1e-5


def test_time_runs_out_with_nothing(solver: str):
    made = hard(1500, 300)
    random = np.random.default_rng(1)
    forced = Problem(
        made.cost, made.lower, made.upper, made.matrix,
        made.matrix @ random.integers(0, 2, 1500), made.matrix @ np.ones(1500), made.integer,
    )  # fmt: skip
    equal = dataclasses.replace(forced, row_upper=forced.row_lower)
    assert solve(equal, solver=solver, seconds=0.01).status is SolverStatus.OUT_OF_TIME


small = st.integers(-5, 5)


@st.composite
def programs(draw) -> Problem:
    n, m = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    matrix = [[draw(small) for _ in range(n)] for _ in range(m)]
    low = [draw(st.sampled_from([-INF, -4.0, 0.0, 1.0])) for _ in range(m)]
    high = [side + draw(st.integers(0, 6)) if side > -INF else 5.0 for side in low]
    cost = [draw(small) for _ in range(n)]
    whole = [draw(st.booleans()) for _ in range(n)]
    return program(cost, matrix, low, high, lower=-2.0, upper=3.0, integer=whole)


def vertices(made: Problem) -> float:
    """The least cost over all vertices, by solving every square system of tight constraints."""
    n = len(made.cost)
    dense = np.vstack([made.matrix.toarray(), made.matrix.toarray(), np.eye(n), np.eye(n)])
    right = np.concatenate([made.row_lower, made.row_upper, made.lower, made.upper])
    usable = [i for i in range(len(right)) if math.isfinite(right[i])]
    best = INF
    for chosen in itertools.combinations(usable, n):
        square = dense[list(chosen)]
        if abs(np.linalg.det(square)) > 1e-9:
            x = np.linalg.solve(square, right[list(chosen)])
            if made.violation(x) < 1e-7:
                best = min(best, made.value(x))
    return best


def enumerated(made: Problem) -> float:
    """The least cost over every value of the integer variables."""
    whole = made.integer.nonzero()[0]
    best = INF
    for values in itertools.product(range(-2, 4), repeat=len(whole)):
        lower, upper = made.lower.copy(), made.upper.copy()
        lower[whole] = upper[whole] = values
        fixed = dataclasses.replace(made, lower=lower, upper=upper)
        best = min(best, vertices(dataclasses.replace(fixed, integer=np.zeros(0, dtype=bool))))
    return best


@settings(max_examples=40, deadline=None)
@given(made=programs())
def test_the_optimum_is_that_of_enumeration(made: Problem):
    expected = enumerated(made)
    for name, package in PACKAGES.items():
        if not _installed(package):
            continue
        found = solve(made, solver=name)
        if expected == INF:
            assert found.status is SolverStatus.INFEASIBLE, name
        else:
            assert found.incumbent == pytest.approx(expected, abs=1e-5), name
            assert found.bound <= expected + 1e-5 and made.violation(found.x) < 1e-5, name


def _installed(package: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(package) is not None


def test_nothing_to_choose():
    empty = Problem(*(np.zeros(0),) * 3, sparse.csr_array((1, 0)), np.ones(1), np.ones(1))
    assert solve(empty).status is SolverStatus.INFEASIBLE
    free = dataclasses.replace(empty, row_lower=-np.ones(1))
    assert solve(free).status is SolverStatus.OPTIMAL


def test_a_solver_that_cannot_is_replaced_and_named(monkeypatch):
    def refuse(problem: Problem, limits: Limits) -> Solution:
        raise Unusable("Gurobi refused the problem: Model too large for size-limited license.")

    monkeypatch.setattr(choosing, "SOLVERS", {**SOLVERS, "gurobi": refuse})
    found = solve(program([1], [[1]], [2], [INF]), solver="gurobi")
    assert found.incumbent == pytest.approx(2) and "HiGHS" in found.solver
    (note,) = found.notes
    assert "size-limited" in note and note.endswith("HiGHS solved it instead.")


def test_the_free_licence_of_gurobi_is_too_small():
    pytest.importorskip("gurobipy", reason="needs gurobipy: pip install 'suture[gurobi]'")
    n = 2500
    made = Problem(np.ones(n), np.ones(n), np.full(n, INF), sparse.eye(n), np.ones(n), np.ones(n))
    found = solve(made, solver="gurobi")
    assert found.incumbent == pytest.approx(n)
    if "HiGHS" in found.solver:
        assert found.notes and "HiGHS solved it instead" in found.notes[0]


def test_a_missing_package_is_replaced_and_named(monkeypatch):
    import sys

    for name in ("gurobi", "scip"):
        monkeypatch.setitem(sys.modules, PACKAGES[name], None)
        found = solve(program([1], [[1]], [2], [INF]), solver=name)
        assert found.status is SolverStatus.OPTIMAL and "pip install" in found.notes[0]


def test_an_answer_that_breaks_a_constraint_is_a_failure(monkeypatch):
    def lie(problem: Problem, limits: Limits) -> Solution:
        return Solution(SolverStatus.OPTIMAL, np.array([1.5]), 1.5, 1.5, 0.0, "Liar 1.0")

    monkeypatch.setattr(choosing, "SOLVERS", {"highs": lie})
    found = solve(program([1], [[1]], [2], [INF]))
    assert found.status is SolverStatus.FAILED and np.isnan(found.x).all()
    assert "0.5" in found.notes[0]


def test_a_failed_solve_says_so(monkeypatch):
    monkeypatch.setattr(highs, "_ENDS", {})
    found = solve(program([1], [[1]], [2], [INF]))
    assert found.status is SolverStatus.FAILED and "numerical" in found.status.value


def test_bad_programs_are_refused():
    with pytest.raises(ArgumentError, match="row_upper of shape"):
        program([1], [[1]], [2], [INF, 3])
    with pytest.raises(ArgumentError, match="matrix of shape"):
        program([1], [[1, 2]], [2], [INF])
    with pytest.raises(ArgumentError, match="without NaN"):
        program([1], [[np.nan]], [2], [INF])
    with pytest.raises(ArgumentError, match="mean highs"):
        solve(program([1], [[1]], [2], [INF]), solver="hihgs")
    for wrong in ({"seconds": 0.0}, {"gap": -1.0}, {"threads": 0}):
        with pytest.raises(ArgumentError):
            solve(program([1], [[1]], [2], [INF]), **wrong)


def test_every_status_is_a_sentence():
    for status in SolverStatus:
        assert status.value.endswith(".") and len(status.value) > 20


def test_rows_are_stacked():
    matrix, low, high = rows(([[1.0, 0.0]], -INF, 2.0), (sparse.eye(2), [0.0, 1.0], INF))
    assert matrix.toarray().tolist() == [[1, 0], [1, 0], [0, 1]]
    assert low.tolist() == [-INF, 0, 1] and high.tolist() == [2, INF, INF]
