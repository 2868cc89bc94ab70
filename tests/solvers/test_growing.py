"""Programs that are solved again: the same optimum as a program solved once, by SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from suture.solvers import Growing, PricedProgram, SolverStatus, cheapest_cover, highs
from suture.solvers.ordering import largest, smallest


def reference(cost, rows, least, most):
    return linprog(cost, A_ub=-rows, b_ub=-least, bounds=[(0, m) for m in most])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000))
def test_rows_added_one_after_another_end_at_the_whole_programs_optimum(seed: int):
    random = np.random.default_rng(seed)
    n, cost, most = 300, random.uniform(0.1, 1, size=300), np.ones(300)
    priced = PricedProgram(cost, most, np.arange(3))
    growing = Growing(cost, np.zeros(n), most)
    rows, least = np.zeros((0, n)), np.zeros(0)
    for _ in range(3):
        more, right = random.normal(size=(4, n)), random.uniform(-3, 6, size=4)
        rows, least = np.vstack([rows, more]), np.concatenate([least, right])
        expected = reference(cost, rows, least, most)
        for program in (priced, growing):
            program.add(more, right, np.full(4, np.inf))
            found = program.solve()
            assert found.status.found == (expected.status == 0)
            if found.status.found:
                assert found.incumbent == pytest.approx(expected.fun, rel=1e-6, abs=1e-7)
                assert (rows @ found.x >= least - 1e-6).all()
                assert found.x.min() >= -1e-9 and found.x.max() <= 1 + 1e-9


def test_no_solution_is_said_only_when_no_column_is_left_out():
    priced = PricedProgram(np.ones(50), np.ones(50), np.arange(1))
    priced.add(np.ones((1, 50)), np.array([49.5]), np.array([np.inf]))
    assert priced.solve().x.sum() == pytest.approx(49.5)
    priced.add(np.ones((1, 50)), np.array([50.5]), np.array([np.inf]))
    assert priced.solve().status is SolverStatus.INFEASIBLE


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([np.inf, 2.0]))
def test_one_row_in_closed_form_is_the_linear_program(seed: int, limit: float):
    random = np.random.default_rng(seed)
    gains, need, price = random.normal(size=8), float(random.uniform(0, 8)), 20.0
    x, slack = cheapest_cover(gains, need, price, limit)
    matrix, least = [[*gains, 1.0]], [need]
    if np.isfinite(limit):
        matrix.append([*[-1.0] * 8, 0.0])
        least.append(-limit)
    expected = reference(
        np.append(np.ones(8), price), np.array(matrix), np.array(least), [1.0] * 8 + [None]
    )
    assert x.sum() + price * slack == pytest.approx(expected.fun, abs=1e-7)
    assert gains @ x + slack >= need - 1e-9 and x.sum() <= limit + 1e-9


def test_another_cost_and_other_bounds():
    program = Growing(np.array([1.0, 2.0]), np.zeros(2), np.full(2, 9.0))
    program.add(np.ones((1, 2)), np.array([4.0]), np.array([np.inf]))
    assert program.solve().x.tolist() == [4, 0]
    program.change(cost=np.array([3.0, 2.0]))
    assert program.solve().x.tolist() == [0, 4]
    program.change(upper=np.array([9.0, 1.0]))
    assert program.solve().x.tolist() == [3, 1]
    assert program.solves == 3


def test_another_solver_gets_the_whole_program(monkeypatch):
    from suture.solvers import choosing, highs

    monkeypatch.setattr(choosing, "SOLVERS", {**choosing.SOLVERS, "scip": highs.solve})
    program = Growing(np.ones(2), np.zeros(2), np.full(2, 9.0), solver="scip")
    program.add(np.ones((1, 2)), np.array([4.0]), np.array([np.inf]))
    assert program.solve().incumbent == pytest.approx(4.0)


def test_an_emptied_model_answers_as_a_fresh_one():
    random = np.random.default_rng(3)
    for _ in range(5):
        cost, matrix = random.uniform(0.1, 1, size=30), random.normal(size=(8, 30))
        answers = []
        for fresh in (False, True):
            if fresh:
                highs._FREE._models.clear()
            program = Growing(cost, np.zeros(30), np.ones(30))
            program.add(matrix, np.full(8, 1.0), np.full(8, np.inf))
            program.solve(1e-9 if fresh else 5.0)
            answers.append(program.solve(60.0).x)
            del program
        assert np.array_equal(*answers)
        assert len(highs._FREE._models) == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-5, 5), max_size=12), st.integers(0, 14))
def test_the_few_smallest_are_those_that_sorting_finds(values: list[int], count: int):
    array = np.array(values, dtype=float)
    assert array[smallest(array, count)].tolist() == sorted(array.tolist())[:count]
    assert array[largest(array, count)].tolist() == sorted(array.tolist(), reverse=True)[:count]
