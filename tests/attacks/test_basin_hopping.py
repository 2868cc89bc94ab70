"""Basin hopping where the number of local maxima is known, and where there is one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from suture.attacks import APGD, PGD, BasinHopping
from suture.errors import ArgumentError
from suture.evaluate.tiers import TIERS
from suture.testing.exact import ExactLinear
from suture.types import Batch

EPS, SIDE = 0.1, 8
PLAIN = {"momentum": 0.0, "smoothing": 0.0}


class Rough(nn.Module):
    """Every pixel has a low maximum at one end of its interval and a high one at the other.

    With u in [-1, 1] the place of a pixel in its interval around 1/2, class 1 leads where the mean
    of u² + u/2 is more than ``level``: 1/2 and 3/2 at the ends, and ascents from u < -1/4 end at
    the low one. So there are 2^64 local maxima, and a random start has 5 of 8 pixels at the high
    end.
    """

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, images: Tensor) -> Tensor:
        u = (images - 0.5).flatten(1) / EPS
        height = (u * u + u / 2).mean(1)
        return torch.stack([torch.full_like(height, self.level), height], 1)


def grey(count: int) -> Batch:
    images = 0.5 + 1e-4 * torch.rand(
        count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)
    )
    return Batch(images, torch.zeros(count, dtype=torch.int64))


def test_it_goes_on_where_other_starts_begin_anew():
    # 1.36 wants 55.04 of 64 pixels at the high end: 3.9 standard deviations from a start's 40.
    model, batch = Rough(1.36), grey(20)
    starts = {"steps": 10, "restarts": 30}
    assert not PGD(eps=EPS, loss="margin", **starts)(model, batch).success.any()
    assert not APGD(eps=EPS, loss="margin-targeted", **starts)(model, batch).success.any()
    hopping = BasinHopping(eps=EPS, steps=10, hops=150, patience=40, probes=0, **PLAIN)
    assert hopping(model, batch).success.all()


def test_all_values_redrawn_are_independent_starts():
    model, batch = Rough(1.36), grey(20)
    attack = BasinHopping(eps=EPS, steps=10, hops=150, redrawn=1.0, patience=150, probes=0, **PLAIN)
    assert not attack(model, batch).success.any()


class Rippled(nn.Module):
    """Class 1 leads where the mean of u is more than 0.9; ripples hide in which direction that is.

    The slope by u is 1 + 4 cos(60 u) and so negative at two of five points, and its mean over any
    interval is about 1. At an end of its interval, where all ascents are soon, it is -2.8. Other
    classes are out of reach.
    """

    def __init__(self, others: int = 0) -> None:
        super().__init__()
        self.others = others

    def forward(self, images: Tensor) -> Tensor:
        u = (images - 0.5).flatten(1) / EPS
        height = (u + 4 * (60 * u).sin() / 60).mean(1)
        lead = torch.stack([torch.full_like(height, 0.9), height], 1)
        return torch.cat([lead, height.new_full((len(u), self.others), -9.0)], 1)


@pytest.mark.parametrize("others", [0, 1, 2, 3])
def test_smoothed_gradients_lead_through_ripples(others: int):
    """Whether classes in turn are an even number or an odd one, each has its smoothed ascents."""
    model, batch = Rippled(others), grey(20)
    hard = {"eps": EPS, "hops": 4 * (1 + others), "probes": 0}
    assert BasinHopping(**hard)(model, batch).success.all()
    assert not BasinHopping(**hard, smoothing=0.0)(model, batch).success.any()
    assert not BasinHopping(**hard, **PLAIN)(model, batch).success.any()


def test_points_that_gradients_are_drawn_from_are_not_judged():
    """A model that errs outside of the ball alone: no image may seem done with before the end."""

    class Outside(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            far = (images - 0.5).abs().amax((1, 2, 3)) - EPS - 1e-3
            return torch.stack([torch.zeros_like(far), far], 1)

    for knows in (False, True):
        attack = BasinHopping(eps=EPS, hops=4, steps=5, probes=0, adaptive=knows)
        result = attack(Outside(), grey(6))
        assert not result.success.any()
        # One about the clean image, 6 a plain hop, 16 a smoothed one.
        assert (result.queries == 1 + 2 * 6 + 2 * 16).all()
        assert ((result.images - grey(6).images).abs() <= EPS + 1e-6).all()


def test_probes_go_on_where_gradients_are_zero():
    class Steps(nn.Module):
        """Class 1 leads where more than 9 of 10 pixels are above 0.59: no gradient anywhere."""

        def forward(self, images: Tensor) -> Tensor:
            share = (images > 0.59).float().flatten(1).mean(1) + 0 * images.flatten(1).sum(1)
            return torch.stack([torch.full_like(share, 0.9), share], 1)

    model, batch = Steps(), grey(8)
    assert not BasinHopping(eps=EPS, steps=5, hops=10, probes=0)(model, batch).success.any()
    assert BasinHopping(eps=EPS, steps=5, hops=40)(model, batch).success.all()


def test_what_brings_nothing_is_left_early():
    # Level 9 is out of reach. A maximum of one pixel is found at once and cannot be raised.
    model, batch = Rough(9.0), grey(3)
    one = Batch(batch.images[:, :, :1, :1], batch.labels)
    result = BasinHopping(eps=EPS, steps=4, hops=50, probes=2, patience=5, **PLAIN)(model, one)
    # One query about the clean image, then hops of 4 steps (5 queries) and 2 probes.
    assert ((result.queries - 1) % 7 == 0).all()
    assert ((result.queries - 1) // 7 <= 10).all()
    assert ((result.queries - 1) // 7 >= 5).all()


@pytest.mark.parametrize("targeted", [False, True])
def test_on_linear_models_it_ends_in_the_best_corner(targeted: bool):
    model = ExactLinear((1, 3, 3), classes=5)
    images = 0.3 + 0.4 * torch.rand(30, 1, 3, 3, generator=torch.Generator().manual_seed(3))
    batch = Batch(images, model(images).argmax(1))
    targets = (batch.labels + 1) % 5
    slopes = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], images[0]).flatten(1)
    logits, own = model(images), batch.labels[:, None]
    gaps = logits - logits.gather(1, own)
    for eps in (0.02, 0.1):
        lead = gaps + eps * (slopes[None] - slopes[batch.labels][:, None]).abs().sum(2)
        attack = BasinHopping(eps=eps, hops=4, steps=20, classes=4)
        if targeted:
            found = attack(model, batch, targets=targets).success
            assert not found[lead.gather(1, targets[:, None])[:, 0] <= 0].any()
            plain = PGD(eps=eps, loss="margin", steps=20)(model, batch, targets=targets).success
            assert found[plain].all()
            assert eps < 0.1 or found.any()
            continue
        best = lead.scatter(1, own, -9.0).amax(1)
        assert torch.equal(attack(model, batch).success, best > 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hops": 0},
        {"steps": 0},
        {"redrawn": 0.0},
        {"step_size": 0},
        {"patience": 0},
        {"momentum": 1.0},
        {"smoothing": -1.0},
        {"probes": -1},
    ],
)
def test_bad_settings_are_refused(wrong: dict[str, float]):
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        BasinHopping(**wrong)


def test_the_tiers_that_are_published_hop():
    for name, hops in (("quick", []), ("standard", [60]), ("deep", [200])):
        attacks = TIERS[name].direct("linf", EPS, 10, 1, randomised=False, finite=True)
        assert [a.hops for a in attacks if isinstance(a, BasinHopping)] == hops
        sampled = TIERS[name].direct("linf", EPS, 10, 50, randomised=True, finite=False)
        assert not any(isinstance(a, BasinHopping) for a in sampled)
