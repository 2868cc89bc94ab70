"""The compiled passes against the plain code they stand for, to the last bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from suture.attacks import APGD, FAB, AutoAttack, Square, kernels
from suture.attacks.against.candidates import Kept
from suture.attacks.geometry import margin
from suture.attacks.losses import LOSSES, ahead, dlr_towards
from suture.attacks.projections import to_hyperplane
from suture.attacks.search import Edits, applied
from suture.attacks.square_moves import propose_linf
from suture.rng import bits
from suture.testing.exact import ExactLinear, classified_batch
from suture.types import RepairedModel

NORMS = ("linf", "l2")
SHAPES = ((1, 1, 1), (1, 2, 3), (3, 4, 5), (1, 28, 28))


def _never(*_: Tensor) -> bool:
    return False


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch):
    """Calls a function without the kernels."""

    def call(function, *arguments, **named):
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "compiles", _never)
            return function(*arguments, **named)

    return call


def planes(seed: int, shape: tuple[int, ...], count: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Points with pixels at the ends, normals with zeros and ties, gaps of every size."""
    generator = torch.Generator().manual_seed(seed)
    points = (2 * torch.rand(count, *shape, generator=generator) - 0.5).clamp(0, 1)
    normals = torch.randn(count, *shape, generator=generator)
    normals = torch.where(torch.rand(count, *shape, generator=generator) < 0.3, 0.0, normals)
    normals[0], normals[1] = 0.0, 0.5 * normals[1].sign()
    gaps = torch.randn(count, generator=generator) * math.prod(shape) * 0.3
    gaps[2], gaps[3] = 0.0, 1e9
    return points, normals, gaps


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), shape=st.sampled_from(SHAPES))
def test_planes(norm, seed, shape):
    given_ = planes(seed, shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "compiles", _never)
        expected = to_hyperplane(norm, *given_)
    assert torch.equal(to_hyperplane(norm, *given_), expected)


LOGIT = st.sampled_from((-1.0, 0.0, 2.0, math.inf, -math.inf, math.nan))


@settings(max_examples=100, deadline=None)
@given(
    logits=st.lists(st.lists(LOGIT, min_size=4, max_size=4), min_size=1, max_size=5),
    goal=st.integers(0, 3),
)
def test_hits_and_margins(logits, goal):
    rows = torch.tensor(logits)
    goals = torch.full((len(rows),), goal)
    hit, gap = kernels.judged(rows, goals)
    assert torch.equal(hit, rows.argmax(1) == goals)
    assert torch.equal(kernels.judged(rows, goals, False)[0], ~hit)
    plain = margin(rows.double(), goals)
    assert torch.equal(gap.double().nan_to_num(7.0), plain.nan_to_num(7.0))


@pytest.mark.parametrize("side", [1, 3, 5])
def test_square_windows(side, plainly):
    clean = torch.rand(7, 3, 5, 9, generator=torch.Generator().manual_seed(0))
    best = (clean + 0.1).clamp(0, 1)
    draws = bits(torch.arange(7)[:, None], torch.arange(5)[None])
    expected = plainly(propose_linf, clean, best, 0.2, side, draws)
    assert torch.equal(propose_linf(clean, best, 0.2, side, draws), expected)
    assert (expected != best).any()
    assert torch.equal(applied(best, Edits()), best)


@pytest.mark.parametrize(
    "attack",
    [
        *(FAB(norm=norm, steps=8, restarts=2) for norm in NORMS),
        FAB(eps=0.05, steps=8, by_class=True, classes=2),
        *(APGD(norm=norm, eps=0.02, steps=30) for norm in NORMS),
        APGD(norm="l1", eps=0.5, steps=30),
        Square(eps=0.03, queries=150),
        Square(eps=0.03, queries=150, early_stop=False),
        Square(norm="l2", eps=0.2, queries=150),
        AutoAttack(eps=0.03, steps=10, queries=100),
        AutoAttack(eps=0.03, steps=10, queries=100, budget=150),
    ],
    ids=repr,
)
def test_whole_attacks(attack, plainly):
    model = ExactLinear((1, 6, 6))
    batch = classified_batch(model, (1, 6, 6), 12, seed=0)
    expected, found = plainly(attack, model, batch), attack(model, batch)
    # FAB's sums of squares are rounded otherwise by some processors: the last bit.
    last_bit = 1.2e-7 if isinstance(attack, FAB) and attack.norm == "l2" else 0.0
    torch.testing.assert_close(found.images, expected.images, rtol=0.0, atol=last_bit)
    assert torch.equal(found.queries, expected.queries)
    assert found.success.any()


class Mixed(RepairedModel):
    """One of three linear classifiers, drawn with known odds."""

    randomised = True

    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList(ExactLinear((1, 6, 6), seed=seed) for seed in range(3))

    def support(self) -> tuple[tuple[float, nn.Module], ...]:
        return tuple(zip((0.5, 0.3, 0.2), self.members, strict=True))

    def undefended(self) -> nn.Module:
        return self.members[0]

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        return self.members[0](images)


CLOSED = {
    "dlr": lambda: LOSSES["dlr"],
    "dlr_towards": lambda: dlr_towards(torch.tensor([1, 2, 3, 4, 0])),
    "ahead": lambda: ahead(torch.tensor([1, 2, 3, 4, 0])),
}


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("odds", [(1.0,), (0.5, 0.2, 0.3)])
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), ties=st.booleans())
def test_losses_in_closed_form_are_those_of_the_graph(name, odds, seed, ties):
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(len(odds), 5, 5, generator=generator)
    draws = ((2 * draws).round() if ties else draws).requires_grad_(True)
    loss, goals = CLOSED[name](), torch.tensor([0, 1, 2, 3, 4])
    values = torch.stack([loss(draw, goals) for draw in draws])
    (expected,) = torch.autograd.grad((values * torch.tensor(odds)[:, None]).sum(), draws)
    found, slopes = loss.slopes(draws.detach(), goals, np.array(odds, np.float32))
    assert torch.equal(found, values.detach())
    # Among equals torch chooses whose gradient it is; the size is the same.
    if ties:
        expected, slopes = (t.abs().sum(2) for t in (expected, slopes))
        assert torch.allclose(slopes, expected, rtol=1e-4, atol=1e-6)
    else:
        assert torch.equal(slopes, expected)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["ce", "dlr", "dlr-targeted", "margin-targeted"])
def test_attacks_on_draws(norm, name, plainly):
    model, batch = Mixed(), classified_batch(ExactLinear((1, 6, 6)), (1, 6, 6), 12, seed=0)
    for of in ("logits", "losses"):
        attack = APGD(norm=norm, eps=0.02, steps=12, loss=name, classes=2, eot_of=of, adaptive=True)
        expected, found = plainly(attack, model, batch), attack(model, batch)
        assert torch.equal(found.images, expected.images)
        assert torch.equal(found.share, expected.share)
        assert 0 < float(found.share.mean()) < 1


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("weights", [None, (0.5, 0.2, 0.3), (1.0,)])
def test_shares_of_draws(targeted, weights, plainly):
    generator = torch.Generator().manual_seed(0)
    goals = torch.arange(4)
    odds = None if weights is None else torch.tensor(weights)
    kept = [
        Kept(torch.rand(4, 1, 2, 2), goals, targeted=targeted, norm="linf", eps=1.0)
        for _ in range(2)
    ]
    for _ in range(5):
        logits = torch.randint(0, 3, (len(weights or "two"), 6, 4), generator=generator).float()
        rows = torch.tensor([2, 0, 1, 1, 3, 0])
        images = torch.rand(6, 1, 2, 2, generator=generator)
        found = kept[0].see(images, rows, logits, odds)
        assert torch.equal(found, plainly(kept[1].see, images, rows, logits, odds))
    for name in ("share", "margin"):
        assert torch.equal(getattr(kept[0], name), getattr(kept[1], name))
    assert (kept[0].share < 2).all()
