"""Chains of patches by forwards and by exact programs, and where one is impossible."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from suture.attacks.aigent.affine import Span, onwards, signs_of
from suture.attacks.aigent.dense import DenseLinearised, is_dense, outputs
from suture.attacks.aigent.goals import led_back, reached, wanted
from suture.attacks.aigent.imitate import ChainFacts, summary
from suture.attacks.aigent.network import LayeredNetwork, Linearised
from suture.attacks.aigent.patching import chain
from suture.attacks.aigent.reaching import (
    FirstValues,
    assignment,
    exact_assignment,
    in_own_phases,
)
from suture.attacks.aigent.tail import Tail, read_tail
from suture.solvers import SolverStatus


def deep(seed: int, shapes: tuple[tuple[int, int], ...] = ((4, 5), (4, 4), (4, 4), (3, 4))) -> Tail:
    random = np.random.default_rng(seed)
    weights = tuple(random.normal(size=shape) for shape in shapes)
    return Tail(weights, tuple(random.normal(size=s[0]) for s in shapes), nn.Identity())


def asked(tail: Tail, seed: int, reach: float = 6.0) -> tuple[np.ndarray, FirstValues]:
    entry = np.random.default_rng(seed + 1).uniform(size=tail.weights[0].shape[1])
    first = tail.weights[0] @ entry + tail.biases[0]
    logits = onwards(tail, first)[-1]
    goal = wanted(int(logits.argmin()), [int(logits.argmax())], len(logits), 1e-3)
    return entry, FirstValues(tail, first, first - reach, first + reach, goal)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_a_joint_chain_meets_its_targets_and_the_patched_network_errs(seed: int):
    """In the phases of values that meet the goal every step has a patch; a forward agrees."""
    tail = deep(seed)
    entry, first = asked(tail, seed)
    values, _ = assignment(first)
    if values is None:
        return
    assert first.short(values) <= 1e-6
    assert (values >= first.lower - 1e-9).all() and (values <= first.upper + 1e-9).all()
    made = chain(
        tail,
        entry,
        first.goal,
        signs=signs_of(onwards(tail, values)),
        marking="split",
        restrict=False,
        joint=True,
        room=(first.lower, first.upper),
    )
    assert made.status is SolverStatus.OPTIMAL and made.whole
    assert made.short(tail, first.goal) <= 5e-4
    patched = tail.weights[0] + made.patches[-1].weights()
    assert patched @ entry + tail.biases[0] == pytest.approx(made.targets)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_the_search_for_values_finds_what_the_exact_program_finds(seed: int):
    tail = deep(seed, ((3, 4), (3, 3), (2, 3)))
    _, first = asked(tail, seed, reach=3.0)
    exact, status = exact_assignment(first)
    values, _ = assignment(first)
    if status is SolverStatus.INFEASIBLE:
        assert values is None
    else:
        assert exact is not None and first.short(exact) <= 1e-5
        if values is not None:
            nearest = np.abs(exact - first.start).max()
            assert nearest <= np.abs(values - first.start).max() + 1e-6


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_what_is_proved_impossible_no_sample_does(seed: int):
    """INFEASIBLE in the input's phases: no values with these phases meet the goal."""
    tail = deep(seed, ((3, 4), (3, 3), (2, 3)))
    _, first = asked(tail, seed, reach=3.0)
    status = in_own_phases(first)
    own = signs_of(onwards(tail, first.start))[:-1]
    random = np.random.default_rng(seed)
    for values in random.uniform(first.lower, first.upper, (400, 3)):
        layers = onwards(tail, values)
        same = all((a == b).all() for a, b in zip(signs_of(layers)[:-1], own, strict=True))
        if same and first.short(values) <= 0:
            assert status.found
            return


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_whoever_goes_beyond_targets_along_split_marks_meets_the_goal(seed: int):
    """Monotone in every phase: no program, random values that the next goal allows."""
    tail, random = deep(seed), np.random.default_rng(seed)
    _, first = asked(tail, seed)
    values = random.normal(size=4) * 3
    met = first.goal.right - first.goal.matrix @ onwards(tail, values)[-1]
    shift = float(met.max())
    rise, fall = led_back(tail, first.goal, 1, len(tail), "split")
    goal = reached(values, rise, fall)
    for _ in range(50):
        other = values + random.normal(size=4) * 2
        other = np.where(rise & fall & (values > 0), values, other)
        other = np.where(rise & ~fall, np.maximum(other, values), other)
        other = np.where(fall & ~rise, np.minimum(other, np.maximum(values, 0)), other)
        other = np.where(rise & fall & (values <= 0), np.minimum(other, 0), other)
        assert goal.short(other) <= 1e-9
        now = first.goal.right - first.goal.matrix @ onwards(tail, other)[-1]
        assert float(now.max()) <= shift + 1e-9


def test_marks_split_where_paths_disagree():
    """Output 0 up, 1 down; neuron 0 feeds both with the same sign, neuron 1 only the first."""
    tail = Tail((np.eye(2), np.array([[1.0, 2.0], [1.0, 0.0]])), (np.zeros(2),) * 2, nn.Identity())
    rise, fall = led_back(tail, wanted(0, [1], 2, 0.0), 1, 2, "split")
    assert rise.tolist() == [True, True] and fall.tolist() == [True, False]
    goal = reached(np.array([3.0, 2.0]), rise, fall)
    assert goal.short(np.array([3.0, 5.0])) <= 0 < goal.short(np.array([3.1, 5.0]))
    assert goal.short(np.array([3.0, 1.9])) > 0


def test_a_layer_whose_inputs_are_zero_is_left_out():
    """ReLU gives layer 2 only zeros: no weight of it can do anything, the first layer can."""
    tail = Tail(
        (-np.eye(2), np.eye(2), np.array([[1.0, 0.0], [0.0, 1.0]])),
        (np.zeros(2), np.zeros(2), np.array([0.1, 0.0])),
        nn.Identity(),
    )
    entry, goal = np.array([0.5, 0.5]), wanted(1, [0], 2, 1e-3)
    alone = chain(tail, entry, goal)
    assert alone.status is SolverStatus.INFEASIBLE and not alone.patches
    first = FirstValues(tail, -entry, np.full(2, -1.0), np.full(2, 1.0), goal)
    values, _ = assignment(first)
    assert values is not None
    signs = signs_of(onwards(tail, values))
    made = chain(tail, entry, goal, signs=signs, joint=True, room=(first.lower, first.upper))
    assert [patch.layer for patch in made.patches] == [1] and made.short(tail, goal) <= 5e-4


def test_a_span_is_the_network_where_its_phases_hold():
    tail = deep(3)
    values = np.random.default_rng(0).normal(size=4)
    layers = onwards(tail, values)
    span = Span.of(tail, signs_of(layers), 1, 4)
    assert (span.phases @ values >= span.least - 1e-12).all()
    assert span.slope @ values + span.shift == pytest.approx(layers[-1])


def dense_model() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 4), nn.ReLU(),
        nn.Linear(4, 3),
    ).double().eval()  # fmt: skip


def test_the_dense_reader_is_its_slow_twin():
    model = dense_model()
    network = LayeredNetwork(model)
    image = np.random.default_rng(0).uniform(size=(1, 2, 3))
    fast = network.at(image)
    assert isinstance(fast, DenseLinearised)
    network._dense = None
    slow = network.at(image)
    assert isinstance(slow, Linearised)
    for name in ("logits", "units", "first", "entry"):
        ours, theirs = getattr(fast, name), getattr(slow, name)
        assert fast.values(ours) == pytest.approx(slow.values(theirs)), name
        if name != "entry":
            weights = np.random.default_rng(1).normal(size=(2, len(fast.values(ours))))
            assert fast.rows(ours, weights) == pytest.approx(slow.rows(theirs, weights)), name
    tail = read_tail(model)
    assert tail is not None
    assert outputs(tail, image[None])[0] == pytest.approx(slow.values(slow.logits))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)),
        nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(6, 2)),
        nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(3, 2)),
    ],
)
def test_other_networks_are_not_read_as_dense(model: nn.Module):
    model = model.double().eval()
    assert not is_dense(model, read_tail(model))


def test_the_summary_says_where_chains_stopped():
    met = ChainFacts(
        SolverStatus.OPTIMAL, False, ((2, 0.1, 0.0), (1, 0.2, 0.0)), True, imitates=True
    )
    short = ChainFacts(SolverStatus.INFEASIBLE, True, ((2, 0.1, 0.3), (1, 0.2, 0.0)), False)
    said = summary([met, short, short])
    assert said.startswith("1 of 3 chains meet every target") and "2 stopped at layer 2." in said
    assert list(itertools.islice((one.stopped for one in (met, short)), 2)) == [None, "layer 2"]
