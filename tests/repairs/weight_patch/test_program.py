"""Patches by hand, by closed form, by enumeration of phases, and by the value-level program."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from suture.attacks.aigent.patching import chain, wanted
from suture.attacks.aigent.tail import Tail
from suture.repairs.weight_patch import Point, Wish, below, largest, patch_layer
from suture.repairs.weight_patch.evaluation import Patched
from suture.repairs.weight_patch.points import entries, met, tail_of
from suture.repairs.weight_patch.program import LayerPatch
from suture.solvers import SolverStatus

TINY = 1e-9


def tail(*weights, biases=None) -> Tail:
    arrays = tuple(np.array(w, dtype=float) for w in weights)
    zeros = tuple(np.zeros(len(w)) for w in arrays) if biases is None else biases
    return Tail(arrays, zeros, nn.Identity())


# The paper's Fig. 1 to 3.
TOY = tail([[1, 1], [-1, 2]], [[2, 3], [1, 1]], [[2, -8], [-4, 5]])
HALF = np.array([0.5, 0.5])
GOLDBERGER = tail([[1, -1], [-2, 2]], [[1, -1], [-1, 1]])
THREE_FOUR = np.array([3.0, 4.0])


def ahead(entry: np.ndarray, winner: int, margin: float = 0.0) -> Point:
    matrix = np.array([[1.0, -1.0]]) if winner == 0 else np.array([[-1.0, 1.0]])
    return Point(entry, matrix, np.array([margin]))


def outputs(network: Tail, layer: int, change, entry: np.ndarray) -> np.ndarray:
    return Patched(network, layer, np.array(change, dtype=float), False).outputs(entry[None])[0][0]


def test_the_toy_network_of_the_paper():
    _, values = TOY.values(HALF)
    assert [v.tolist() for v in values] == [[1, 0.5], [3.5, 1.5], [-5, -6.5]]
    _, values = GOLDBERGER.values(THREE_FOUR)
    assert np.maximum(values[0], 0).tolist() == [0, 2] and values[1].tolist() == [-2, 2]


def test_the_papers_patches_are_feasible_and_ours_are_not_larger():
    """ε = ⟨-9/8, -17/4, -5/4, -1/4⟩ in the second layer, weights ⟨-3/4, 7/8⟩ in the first."""
    second = [[-9 / 8, -17 / 4], [-5 / 4, -1 / 4]]
    first = [[0, -7 / 4], [0, -9 / 8]]
    assert outputs(TOY, 2, second, HALF).tolist() == [-0.5, -0.375]
    assert outputs(TOY, 1, first, HALF).tolist() == [-0.5, -0.375]
    for layer, theirs in ((2, second), (1, first)):
        for size in ("linf", "l1"):
            ours = patch_layer(TOY, layer, [ahead(HALF, 1, 1e-6)], Wish(size=size))
            assert ours.status is SolverStatus.OPTIMAL
            assert np.diff(outputs(TOY, layer, ours.change, HALF))[0] > 0
            measure = np.max if size == "linf" else np.sum
            assert measure(np.abs(ours.change)) < measure(np.abs(theirs)), (layer, size)


def test_the_last_layer_example_has_a_closed_form():
    """Inputs ⟨0, 2⟩ meet the last layer, the gap is 4: M = gap / Σ|v| = 4 / (2 + 2) = 1."""
    made = patch_layer(GOLDBERGER, 2, [ahead(THREE_FOUR, 0)], Wish(size="linf"))
    assert made.largest == pytest.approx(1.0)
    assert made.change == pytest.approx(np.array([[0, 1], [0, -1]]))
    assert outputs(GOLDBERGER, 2, made.change, THREE_FOUR) == pytest.approx([0, 0], abs=1e-6)
    assert (made.total, made.count, made.gap) == pytest.approx((2.0, 2, 0.0))
    few = patch_layer(GOLDBERGER, 2, [ahead(THREE_FOUR, 0)], Wish(size="count", exact=True))
    assert few.count == 1 and few.incumbent == pytest.approx(1.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_one_row_on_the_last_layer_has_a_closed_form(seed: int):
    """Minimise M: gap / Σ_j |coefficient_j|. Minimise the sum: gap / max_j |coefficient_j|."""
    random = np.random.default_rng(seed)
    network = tail(random.normal(size=(4, 3)), random.normal(size=(3, 4)))
    entry = random.normal(size=3)
    inputs, values = network.values(entry)
    form = random.normal(size=3)
    gap = 0.5
    point = Point(entry, form[None], np.array([form @ values[1] + gap]))
    slopes = np.abs(np.outer(form, inputs[1]))
    if slopes.max() < 1e-2:
        return
    least = patch_layer(network, 2, [point], Wish(size="linf"))
    assert least.largest == pytest.approx(gap / slopes.sum(), rel=1e-5)
    assert patch_layer(network, 2, [point], Wish(size="l1")).total == pytest.approx(
        gap / slopes.max(), rel=1e-5
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_a_first_layer_patch_is_never_larger_than_the_program_with_all_phases(seed: int):
    """The reference writes every phase of the input as a row on all weights, densely."""
    from scipy.optimize import linprog

    random = np.random.default_rng(seed)
    network = tail(random.normal(size=(3, 2)), random.normal(size=(2, 3)))
    entry = random.normal(size=2)
    _, (first, last) = network.values(entry)
    winner = int(last.argmin())
    signs = np.where(first > 0, 1.0, -1.0)
    slope = network.weights[1] * (signs > 0)
    form = slope[winner] - slope[1 - winner]
    forms = [(form, 1e-3 - (last[winner] - last[1 - winner]))]
    forms += [
        (sign * unit, -sign * z) for sign, unit, z in zip(signs, np.eye(3), first, strict=True)
    ]
    matrix = np.array([np.append(-np.kron(f, entry), 0.0) for f, _ in forms])
    cap = np.hstack([np.vstack([np.eye(6), -np.eye(6)]), -np.ones((12, 1))])
    reference = linprog(
        np.append(np.zeros(6), 1.0),
        A_ub=np.vstack([matrix, cap]),
        b_ub=np.concatenate([[-r for _, r in forms], np.zeros(12)]),
        bounds=[(None, None)] * 6 + [(0, None)],
    )
    ours = patch_layer(network, 1, [ahead(entry, winner, 1e-3)], Wish(size="linf"))
    if reference.status == 0:
        assert ours.status is SolverStatus.OPTIMAL
        assert ours.largest <= reference.x[-1] * (1 + 1e-5) + 1e-7
    if ours.status is SolverStatus.OPTIMAL:
        said = outputs(network, 1, ours.change, entry)
        assert said[winner] - said[1 - winner] >= 4e-4


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_attacks_program_over_neurons_is_the_one_over_weights(seed: int):
    random = np.random.default_rng(seed)
    network = tail(random.normal(size=(4, 3)), random.normal(size=(3, 4)))
    entry = random.normal(size=3)
    inputs, values = network.values(entry)
    target = int(values[1].argmin())
    half = Tail(network.weights[1:], network.biases[1:], nn.Identity())
    goal = wanted(target, [c for c in range(3) if c != target], 3, 1e-3)
    made = chain(half, inputs[1], goal)
    if not np.any(inputs[1]):
        assert made.status is SolverStatus.INFEASIBLE
        return
    (patch,) = made.patches
    over_weights = patch_layer(half, 1, [largest(inputs[1], target, 3, 1e-3)], Wish(size="linf"))
    assert patch.largest == pytest.approx(over_weights.largest, rel=1e-4)
    assert np.abs(patch.weights()).max() == pytest.approx(patch.largest, rel=1e-6)
    assert patch.weights() @ inputs[1] == pytest.approx(patch.change)
    assert made.targets == pytest.approx(values[1] + patch.change)


def test_marks_of_the_papers_third_figure():
    """Green output 1 and red output 2 make hidden neuron 1 green and hidden neuron 2 red."""
    goal = wanted(0, [1], 2, 0.0)
    for marking in ("split", "sign"):
        made = chain(GOLDBERGER, THREE_FOUR, goal, marking=marking)
        assert made.rise.tolist() == [True, False] and made.fall.tolist() == [False, True]
    assert [patch.layer for patch in made.patches] == [1]


def test_the_chain_on_the_toy_network():
    goal = wanted(1, [0], 2, 1e-6)
    made = chain(TOY, HALF, goal)
    assert [patch.layer for patch in made.patches] == [2, 1]
    assert made.status is SolverStatus.OPTIMAL
    assert made.patches[0].largest < 17 / 4 and made.patches[1].largest < 7 / 4
    said = TOY.weights[2] @ np.maximum(TOY.weights[1] @ np.maximum(made.targets, 0), 0)
    assert said[1] > said[0]


def many(seed: int = 0, n: int = 8) -> tuple[Tail, list[Point]]:
    random = np.random.default_rng(seed)
    network = tail(
        random.normal(size=(6, 4)), random.normal(size=(3, 6)), biases=(random.normal(size=6),) * 1
        + (random.normal(size=3),),
    )  # fmt: skip
    points = [largest(random.normal(size=4), int(random.integers(3)), 3, 1e-2) for _ in range(n)]
    return network, points


@pytest.mark.parametrize("size", ["linf", "l1", "both", "count"])
@pytest.mark.parametrize("layer", [1, 2])
def test_all_of_many_inputs_become_right(layer: int, size: str):
    network, points = many(n=4)
    made = patch_layer(network, layer, points, Wish(size=size))
    assert made.status is SolverStatus.OPTIMAL and made.met.all()
    entries_ = np.stack([point.entry for point in points])
    assert met(points, Patched(network, layer, made.change, False).outputs(entries_)[0]).all()


def test_each_size_is_smallest_in_its_own_measure():
    network, points = many(n=5)
    made = {
        size: patch_layer(network, 2, points, Wish(size=size, exact=size == "count", seconds=20))
        for size in ("linf", "l1", "both", "count")
    }
    both = {size: one.largest + one.total / 18 for size, one in made.items()}
    assert made["linf"].largest == pytest.approx(min(m.largest for m in made.values()), abs=1e-6)
    assert made["l1"].total == pytest.approx(min(m.total for m in made.values()), abs=1e-6)
    assert both["both"] == pytest.approx(min(both.values()), abs=1e-6)
    assert made["both"].incumbent == pytest.approx(both["both"], abs=1e-6)
    assert made["count"].count == min(m.count for m in made.values())


def test_the_fewest_weights_are_those_of_enumeration():
    network, points = many(seed=3, n=3)
    made = patch_layer(network, 2, points, Wish(size="count", exact=True))
    wish, base = Wish(size="l1"), patch_layer(network, 2, points, Wish(size="l1"))
    fewest = base.count
    for count in range(1, base.count):
        for chosen in itertools.combinations(range(18), count):
            if _possible(network, points, chosen):
                fewest = min(fewest, count)
                break
    assert made.count == fewest, wish


def _possible(network: Tail, points: list[Point], chosen: tuple[int, ...]) -> bool:
    from scipy.optimize import linprog

    rows, right = [], []
    for point in points:
        inputs, values = network.values(point.entry)
        rows.append(-np.kron(point.matrix, inputs[1][None])[:, list(chosen)])
        right.append(point.matrix @ values[1] - point.right)
    found = linprog(
        np.zeros(len(chosen)), A_ub=np.vstack(rows), b_ub=np.concatenate(right), bounds=(-1e3, 1e3)
    )
    return found.status == 0


def test_an_impossible_demand_is_infeasible():
    entry = np.array([1.0, 2.0])
    made = patch_layer(GOLDBERGER, 2, [ahead(entry, 0, 1.0), ahead(entry, 1, 1.0)], Wish())
    assert made.status is SolverStatus.INFEASIBLE and not made.change.any()


def test_a_demand_with_a_price_is_missed_where_it_must_be():
    entry = np.array([3.0, 4.0])
    kept = Point(entry, np.array([[-1.0, 1.0]]), np.array([1.0]), price=0.1)
    made = patch_layer(GOLDBERGER, 2, [ahead(entry, 0, 1.0), kept], Wish())
    assert made.status is SolverStatus.OPTIMAL and made.met.tolist() == [True, False]


def test_a_limit_on_the_change():
    point = [ahead(THREE_FOUR, 0)]
    assert patch_layer(GOLDBERGER, 2, point, Wish(max_change=0.9)).status is SolverStatus.INFEASIBLE
    assert patch_layer(GOLDBERGER, 2, point, Wish(max_change=1.01)).status is SolverStatus.OPTIMAL


def test_no_time_is_its_own_status():
    network, points = many(n=8)
    assert patch_layer(network, 1, points, Wish(seconds=1e-9)).status is SolverStatus.OUT_OF_TIME


def test_a_decoupled_patch_needs_no_phases():
    """The decoupled output is affine in the patch: twice the change, twice the effect."""
    network, points = many(seed=1, n=6)
    entries_ = np.stack([point.entry for point in points])
    made = patch_layer(network, 1, points, Wish(size="l1", decoupled=True))
    assert made.status is SolverStatus.OPTIMAL and made.met.all()
    none, once, twice = (
        Patched(network, 1, k * made.change, True).outputs(entries_)[0] for k in (0, 1, 2)
    )
    assert twice - none == pytest.approx(2 * (once - none))
    coupled = Patched(network, 1, 0 * made.change, False).outputs(entries_)[0]
    assert none == pytest.approx(coupled)


def test_points_of_a_model():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)
    )
    images = torch.rand(7, 1, 3, 3)
    found = entries(model, images, batch_size=3)
    with torch.no_grad():
        assert found == pytest.approx(model[:3](images).numpy(), abs=1e-6)
        said = Patched(tail_of(model), 1, np.zeros((5, 8)), False).outputs(found)[0]
        assert said == pytest.approx(model(images).numpy(), abs=1e-5)


def test_below_asks_for_the_likeliest_other():
    point = below(np.zeros(2), 1, np.array([0.0, 5.0, 3.0]), 0.5)
    assert point.matrix.tolist() == [[0, -1, 1]] and point.right.tolist() == [0.5]


def test_measures_of_a_patch():
    change = np.array([[0.0, -2.0], [0.5, 0.0]])
    made = LayerPatch(1, SolverStatus.OPTIMAL, change, np.ones(1, bool), 0, 0, 0, 0, 0)
    assert (made.largest, made.total, made.count) == (2.0, 2.5, 2)
