"""Square's moves against the paper's text, written as plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from suture.attacks import Square
from suture.attacks.geometry import distance
from suture.attacks.projections import to_l1_ball
from suture.attacks.search import applied
from suture.attacks.square_l1_moves import edit_l1, start_l1
from suture.attacks.square_moves import (
    bump,
    edit_l2,
    energy_of,
    propose_l2,
    propose_linf,
    start_l2,
    start_linf,
)
from suture.rng import bits, integers
from suture.testing.exact import ExactLinear, classified_batch

SHAPE = (2, 9, 7)


@pytest.fixture
def clean() -> torch.Tensor:
    return torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))


def draws(lanes: int) -> torch.Tensor:
    return bits(torch.arange(5)[:, None], torch.arange(lanes)[None])


def test_bump_of_three_by_hand():
    # Algorithm 3: an upper pyramid of height 1, a lower one of height 2, opposite signs.
    upper = torch.tensor([[0.25, 1.25, 0.25]])
    # Height 2, width 3, centre (1, 1): layer 0 adds 1 at (1, 1); layer 1 adds 1/4 everywhere.
    lower = torch.tensor([[0.25, 0.25, 0.25], [0.25, 1.25, 0.25]])
    expected = torch.cat([upper, -lower])
    assert torch.allclose(bump(3), expected / expected.norm())


@pytest.mark.parametrize("side", range(1, 12))
def test_bumps_have_unit_norm(side: int):
    assert math.isclose(float(bump(side, "l1").abs().sum()), 1.0, rel_tol=1e-6)
    assert math.isclose(float(bump(side).norm()), 1.0, rel_tol=1e-6)


def test_linf_square_by_a_loop(clean: torch.Tensor):
    eps, side, lanes = 0.1, 3, draws(4)
    best = start_linf(clean, eps, draws(2 * 7))
    proposed = propose_linf(clean, best, eps, side, lanes)
    for k in range(5):
        top, left = int(integers(lanes[k, 0], 7)), int(integers(lanes[k, 1], 5))
        for c in range(2):
            sign = 2 * int(integers(lanes[k, 2 + c], 2)) - 1
            for i in range(9):
                for j in range(7):
                    value = best[k, c, i, j]
                    if top <= i < top + side and left <= j < left + side:
                        moved = value + 2 * eps * sign
                        moved = min(max(moved, clean[k, c, i, j] - eps), clean[k, c, i, j] + eps)
                        value = min(max(moved, torch.tensor(0.0)), torch.tensor(1.0))
                    assert math.isclose(float(proposed[k, c, i, j]), float(value), abs_tol=1e-7)


def test_linf_start_is_stripes(clean: torch.Tensor):
    delta = start_linf(clean, 0.1, draws(14)) - clean
    inside = (clean > 0.1) & (clean < 0.9)
    assert torch.allclose(delta[inside].abs(), torch.tensor(0.1))
    signs = delta.sign()
    assert (signs == signs[:, :, :1]).all()


def test_l2_square_by_a_loop(clean: torch.Tensor):
    eps, side, lanes = 1.5, 3, draws(7)
    best = start_l2(clean, eps, draws(2 * 9 * 7))
    proposed = propose_l2(clean, best, eps, side, lanes)
    for k in range(5):
        place = [
            integers(lanes[k, i], 9 - side + 1 if i % 2 == 0 else 7 - side + 1) for i in range(4)
        ]
        first = (slice(None), slice(place[0], place[0] + side), slice(place[1], place[1] + side))
        second = (slice(None), slice(place[2], place[2] + side), slice(place[3], place[3] + side))
        delta = best[k] - clean[k]
        union = torch.zeros(SHAPE, dtype=torch.bool)
        union[first] = union[second] = True
        spare = max(eps**2 - float((delta**2).sum()), 0.0) / 2
        freed = ((delta * union) ** 2).sum((1, 2))
        shape = bump(side).T if int(integers(lanes[k, 4], 2)) else bump(side)
        new = torch.stack([shape * (2 * int(integers(lanes[k, 5 + c], 2)) - 1) for c in range(2)])
        window = delta[first]
        new = new + window / (window.pow(2).sum((1, 2), keepdim=True).sqrt() + 1e-10)
        new = (
            new
            / new.pow(2).sum((1, 2), keepdim=True).sqrt()
            * (spare + freed).sqrt()[:, None, None]
        )
        delta = delta.clone()
        delta[second] = 0
        delta[first] = new
        expected = (clean[k] + delta / delta.norm() * eps).clamp(0, 1)
        assert torch.allclose(proposed[k], expected, atol=1e-6)


def test_l1_square_by_a_loop(clean: torch.Tensor):
    eps, side, lanes = 6.0, 3, draws(7)
    best = start_l1(clean, eps, draws(2 * 9 * 7))
    assert (distance("l1", best - clean) <= eps).all()
    edits, _ = edit_l1(clean, best, energy_of(clean, best), eps, side, lanes)
    proposed = applied(best, edits)
    for k in range(5):
        top, left, low, right = (
            int(integers(lanes[k, i], 9 - side + 1 if i % 2 == 0 else 7 - side + 1))
            for i in range(4)
        )
        first = (slice(None), slice(top, top + side), slice(left, left + side))
        second = (slice(None), slice(low, low + side), slice(right, right + side))
        delta = best[k] - clean[k]
        union = torch.zeros(SHAPE, dtype=torch.bool)
        union[first] = union[second] = True
        spare = max(eps - float(delta.abs().sum()), 0.0) / 2
        freed = (delta * union).abs().sum((1, 2))
        shape = bump(side, "l1").T if int(integers(lanes[k, 4], 2)) else bump(side, "l1")
        new = torch.stack([shape * (2 * int(integers(lanes[k, 5 + c], 2)) - 1) for c in range(2)])
        new = new + delta[first] / (delta[first].abs().sum((1, 2), keepdim=True) + 1e-12)
        new = new / new.abs().sum((1, 2), keepdim=True) * (spare + freed)[:, None, None] * 2
        delta = delta.clone()
        delta[second] = 0
        delta[first] = new
        expected = to_l1_ball(eps, clean[k : k + 1], (clean[k] + delta)[None])[0]
        assert torch.allclose(proposed[k], expected, atol=1e-5)


def test_l2_energy_follows_the_windows(clean: torch.Tensor):
    best, lanes = start_l2(clean, 1.5, draws(2 * 9 * 7)), draws(7)
    edits, energy = edit_l2(clean, best, energy_of(clean, best), 1.5, 3, lanes)
    assert torch.allclose(energy, energy_of(clean, applied(best, edits)), atol=1e-5)


def test_schedule_is_the_authors():
    # p_selection of the authors' code for 10 000 queries and p = 0.8, on a 100 x 100 image.
    attack, image = Square(queries=10_000), torch.zeros(1, 1, 100, 100)
    shares = {0: 1, 10: 1, 11: 2, 51: 4, 201: 8, 501: 16, 1001: 32, 2001: 64, 4001: 128}
    shares |= {6001: 256, 8001: 512}
    for step, divisor in shares.items():
        assert attack._side(step, 10_000, image) == round(math.sqrt(0.8 / divisor) * 100)


def test_rescaled_schedule_stretches():
    short, image = Square(queries=1_000), torch.zeros(1, 1, 100, 100)
    assert short._side(101, 1_000, image) == Square(queries=10_000)._side(1_010, 10_000, image)


def test_positions_differ_between_images():
    model = ExactLinear(SHAPE)
    batch = classified_batch(model, SHAPE, n=6, seed=0)
    twice = Square(eps=0.01, queries=3)(model, batch, generator=0).images - batch.images
    patterns = {tuple(t.sign().flatten().tolist()) for t in twice[:-1]}
    assert len(patterns) == 5


def test_without_early_stop_the_budget_is_spent():
    model = ExactLinear(SHAPE)
    batch = classified_batch(model, SHAPE, n=6, seed=0)
    result = Square(eps=0.2, queries=30, early_stop=False)(model, batch)
    assert (result.queries[:-1] == 30).all()
    assert result.success.all()
