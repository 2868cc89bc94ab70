"""FAB: exact on linear classifiers; early leaving, restarts, and what it looks at."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from suture.attacks import FAB
from suture.attacks.geometry import distance
from suture.errors import ArgumentError
from suture.testing.exact import ExactLinear, classified_batch
from suture.types import Batch
from tests.attacks.test_gradient_attacks import minimal
from tests.attacks.test_pgd import grey_case

NORMS = ("linf", "l2", "l1")


@pytest.fixture(scope="module")
def curved() -> tuple[nn.Module, Batch]:
    """A network whose boundaries are not planes, and images of its own classes."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Flatten(), nn.Linear(24, 32), nn.Tanh(), nn.Linear(32, 5))
    with torch.no_grad():
        model[1].weight.mul_(12)
    return model, classified_batch(model, (1, 4, 6), n=12, seed=1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("by_class", [False, True])
def test_the_smallest_change_of_a_linear_classifier(norm: str, by_class: bool):
    model, batch, gap, w = grey_case()
    result = FAB(norm=norm, by_class=by_class)(model, batch)
    exact = minimal(norm, gap, w)
    found = distance(norm, result.images - batch.images)
    assert result.success.all()
    assert (found >= exact * (1 - 1e-4)).all()
    assert (found <= exact * 1.06).all()  # the overshoot is 5 %


def test_images_leave_with_the_first_change_within_the_radius(curved):
    model, batch = curved
    free = FAB(norm="l2", steps=30)(model, batch)
    lengths = distance("l2", free.images - batch.images)[:-1]
    assert (free.queries[:-1] == 60).all()
    radius = float(lengths.median())
    ball = FAB(norm="l2", steps=30, eps=radius)(model, batch)
    assert torch.equal(ball.success[:-1], lengths <= radius)
    early = ball.queries[:-1] < 60
    assert ball.success[:-1][early].all() and early.sum() >= 3


def test_restarts_are_drawn_and_only_shorten(curved):
    model, batch = curved
    runs = [FAB(norm="l2", steps=4, restarts=r)(model, batch, generator=7) for r in (1, 4)]
    one, four = (distance("l2", run.images - batch.images)[:-1] for run in runs)
    assert (four <= one).all() and (four < one).any()
    attack = FAB(norm="l2", steps=4, restarts=4)
    other = attack(model, batch, generator=8)
    assert attack.random_start and not torch.equal(runs[1].images, other.images)


def test_restarts_begin_at_half_the_smallest_radius(curved, monkeypatch):
    model, batch = curved
    starts = []
    start = FAB._start

    def watched(self, oracle, left, number):
        here = start(self, oracle, left, number)
        starts.append((distance("l1", here - left.clean), left.shortest.clone()))
        return here

    monkeypatch.setattr(FAB, "_start", watched)
    FAB(norm="l1", steps=3, restarts=2, eps=1e-3)(model, batch)
    (first, none), (second, shortest) = starts
    assert none.isinf().all() and not first.any()
    assert (shortest > 1e-3).all()
    assert (second <= 0.5e-3 * 1.001).all() and (second > 0).all()


def test_by_class_asks_for_one_gradient_and_towards_each(curved):
    model, batch = curved
    every = FAB(norm="l2", steps=10)(model, batch)
    each = FAB(norm="l2", steps=10, by_class=True)(model, batch)
    two = FAB(norm="l2", steps=10, by_class=True, classes=2)(model, batch)
    assert (every.queries[:-1] == 20).all()
    assert (each.queries[:-1] == 1 + 4 * 20).all()
    assert (two.queries[:-1] == 1 + 2 * 20).all()
    lengths = [distance("l2", r.images - batch.images)[:-1] for r in (each, two)]
    assert (lengths[0] <= lengths[1]).all()


def test_targeted_reaches_the_target(curved):
    model, batch = curved
    targets = (batch.labels + 1) % 5
    result = FAB(norm="l2", steps=40)(model, batch, targets=targets)
    assert result.success[result.clean_right].float().mean() >= 0.9


def test_a_flat_model_is_left_alone():
    model = ExactLinear((1, 3, 4))
    nn.init.zeros_(model.weight)
    batch = classified_batch(model, (1, 3, 4), n=4, seed=0)
    result = FAB(norm="linf", steps=3)(model, batch)
    assert torch.equal(result.images, batch.images)


@pytest.mark.parametrize(
    "wrong", [{"eta": 0.9}, {"beta": 1.0}, {"alpha_max": -0.1}, {"steps": 0}, {"classes": 0}]
)
def test_bad_arguments(wrong):
    with pytest.raises(ArgumentError):
        FAB(**wrong)
    assert math.isinf(FAB().eps)
