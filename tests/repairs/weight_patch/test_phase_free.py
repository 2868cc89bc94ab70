"""Patches in any phases: by enumeration of the phases, and never larger than fixed ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import nn

from suture.attacks.aigent.affine import Span
from suture.attacks.aigent.encoding import encode, known_bounds
from suture.attacks.aigent.tail import Tail
from suture.errors import ArgumentError
from suture.repairs.weight_patch import Point, Wish, largest, patch_layer
from suture.repairs.weight_patch.evaluation import Patched
from suture.repairs.weight_patch.phase_free import _within, smallest_patch
from suture.solvers import SolverStatus


def small(seed: int) -> tuple[Tail, np.random.Generator]:
    random = np.random.default_rng(seed)
    shapes = ((3, 4), (3, 3), (2, 3))
    weights = tuple(random.normal(size=shape) for shape in shapes)
    return Tail(weights, tuple(random.normal(size=s[0]) for s in shapes), nn.Identity()), random


def by_enumeration(tail: Tail, entry: np.ndarray, point: Point) -> float:
    """The smallest ``max |ε|`` of layer 1: a linear program for each of the 2⁶ phases."""
    z, best = tail.weights[0] @ entry + tail.biases[0], np.inf
    scale = np.abs(entry).sum()
    for signs in itertools.product((-1.0, 1.0), repeat=6):
        span = Span.of(tail, [np.array(signs[:3]), np.array(signs[3:])], 1, 3)
        matrix = np.vstack([point.matrix @ span.slope, span.phases])
        right = np.concatenate([point.right - point.matrix @ span.shift, span.least])
        rows = np.hstack([-scale * matrix, np.zeros((len(matrix), 1))])
        ties = np.vstack(
            [np.hstack([s * np.eye(3), -np.ones((3, 1))]) for s in (1.0, -1.0)]
        )  # fmt: skip
        found = linprog(
            [0, 0, 0, 1],
            A_ub=np.vstack([rows, ties]),
            b_ub=np.concatenate([matrix @ z - right, np.zeros(6)]),
            bounds=[(None, None)] * 3 + [(0, None)],
        )
        best = min(best, found.fun) if found.status == 0 else best
    return best


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000))
@example(220)
def test_the_smallest_in_any_phases_is_that_of_enumeration(seed: int):
    tail, random = small(seed)
    entry = random.normal(size=4)
    outputs = Patched(tail, 1, np.zeros((3, 4)), False).outputs(entry[None])[0][0]
    point = largest(entry, int(outputs.argmin()), 2, 1e-2)
    fixed = patch_layer(tail, 1, [point], Wish())
    free = smallest_patch(tail, 1, [point], Wish(phases="free"))
    best = by_enumeration(tail, entry, point)
    if best > 900:
        return
    assert free.status is SolverStatus.OPTIMAL and free.met.all()
    assert free.largest == pytest.approx(best, rel=1e-4, abs=1e-6)
    assert free.bound <= free.largest * (1 + 1e-6) + 1e-9
    if fixed.status.found:
        assert free.largest <= fixed.largest * (1 + 1e-4) + 1e-6


@pytest.mark.parametrize("size", ["linf", "l1"])
def test_two_inputs_share_the_patch(size: str):
    tail, random = small(6)
    points = [largest(random.normal(size=4), label, 2, 1e-2) for label in (0, 1)]
    free = smallest_patch(tail, 1, points, Wish(size=size, phases="free"))
    fixed = patch_layer(tail, 1, points, Wish(size=size))
    assert free.status is SolverStatus.OPTIMAL and free.met.all()
    measure = max if size == "linf" else sum
    ours, theirs = (measure(np.abs(one.change).ravel()) for one in (free, fixed))
    assert not fixed.status.found or ours <= theirs * (1 + 1e-5) + 1e-7


def test_nothing_larger_than_the_patch_at_hand_is_given_back():
    """The program's box holds sizes up to the fixed patch's: of the sum, not of each weight."""
    tail, random = small(6)
    points = [largest(random.normal(size=4), label, 2, 1e-2) for label in (0, 1)]
    fixed = patch_layer(tail, 1, points, Wish(size="l1"))
    half = _within(tail, 1, points, Wish(size="l1"), 0.5 * fixed.total, None)
    free = smallest_patch(tail, 1, points, Wish(size="l1", phases="free"))
    assert half.status is SolverStatus.INFEASIBLE or half.total <= 0.5 * fixed.total + 1e-6
    assert free.total <= fixed.total * (1 + 1e-5)


def test_a_demand_with_a_price_may_be_missed():
    tail, random = small(1)
    entry = random.normal(size=4)
    points = [largest(entry, 0, 2, 1e-2), largest(entry, 1, 2, 1e-2, price=0.1)]
    free = smallest_patch(tail, 1, points, Wish(phases="free"))
    assert free.status is SolverStatus.OPTIMAL and free.met.tolist() == [True, False]


def test_sizes_without_a_program_are_refused():
    tail, random = small(2)
    points = [largest(random.normal(size=4), 0, 2, 1e-2)]
    for wish in (Wish(size="count", phases="free"), Wish(phases="free", decoupled=True)):
        with pytest.raises(ArgumentError, match="linf"):
            smallest_patch(tail, 1, points, wish)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_the_encoding_holds_for_every_point_of_the_box(seed: int):
    tail, random = small(seed)
    middle = random.normal(size=3)
    lower, upper = middle - 0.7, middle + 0.7
    code = encode(tail, 1, lower, upper)
    known = known_bounds(tail, 1, lower, upper)
    for _ in range(20):
        z = random.uniform(lower, upper)
        second = tail.weights[1] @ np.maximum(z, 0) + tail.biases[1]
        for value, (low, high) in zip((z, second), known, strict=True):
            assert (value >= low).all() and (value <= high).all()
        x = [z]
        for value, (low, high) in zip((z, second), known, strict=True):
            either = (low < 0) & (high > 0)
            x += [np.maximum(value, 0), (value[either] > 0).astype(float)]
        x = np.concatenate(x)
        rows = code.matrix @ x
        assert (rows >= code.row_lower - 1e-9).all() and (rows <= code.row_upper + 1e-9).all()
        said = tail.weights[2] @ np.maximum(second, 0) + tail.biases[2]
        assert code.outputs @ x + code.shift == pytest.approx(said)
