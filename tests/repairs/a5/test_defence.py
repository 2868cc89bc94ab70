"""Every perturbation stays in its ball and every stored image in [0, 1] with 8 bits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suture.errors import ArgumentError
from suture.repairs.a5 import Defence, build_robustifier

EPS = st.floats(0.0, 1.0)


def draws(seed: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 1, 4, 4, generator=generator)
    return images, scale * torch.randn(3, 1, 4, 4, generator=generator)


def test_the_papers_parametrisation_by_hand():
    z = torch.tensor([[0.0, math.log(3.0), -math.log(3.0), 100.0]])
    found = Defence(0.2).perturbation(z)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.1, -0.1, 0.2]]))
    # L2: 0.5 * (3, 4) / sqrt(1 + 25)
    found = Defence(0.5, "l2").perturbation(torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(found, torch.tensor([[1.5, 2.0]]) / math.sqrt(26))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), eps=EPS, scale=st.sampled_from([0.1, 3.0, 1e4]))
def test_stored_images_stay_in_the_ball_and_the_box(seed: int, eps: float, scale: float):
    for norm, reach in (("linf", eps), ("l2", 4 * eps)):
        images, z = draws(seed, scale)
        defence = Defence(reach, norm)
        stored = defence.stored(images, defence.apply(images, z))
        order = float("inf") if norm == "linf" else 2
        size = (stored - images).flatten(1).norm(order, dim=1)
        assert bool((size <= reach + 1e-5).all())
        assert float(stored.min()) >= 0 and float(stored.max()) <= 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), eps=st.floats(0.01, 1.0))
def test_stored_images_have_8_bits(seed: int, eps: float):
    images, z = draws(seed, 3.0)
    grey = (images * 255).round() / 255
    for defence in (Defence(eps), Defence(4 * eps, "l2")):
        levels = 255 * defence.stored(grey, defence.apply(grey, z))
        torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)


def test_rounding_keeps_what_it_can():
    images = torch.tensor([[[[0.0, 1.0, 100 / 255]]]])
    moved = torch.tensor([[[[10.4 / 255, 1.0, 90.6 / 255]]]])
    stored = Defence(0.1).stored(images, moved) * 255
    torch.testing.assert_close(stored, torch.tensor([[[[10.0, 255.0, 91.0]]]]))
    # 0.1 + 0.3 is a little more than 0.4 = 102/255 in float32: the level 102 must not be lost.
    low, high = torch.full((1, 1, 1, 1), 0.1), torch.full((1, 1, 1, 1), 0.4)
    assert float(Defence(0.3).stored(low, high) * 255) == pytest.approx(102)
    # A ball between two grey levels: the image stays.
    off = torch.full((1, 1, 1, 1), 0.5 / 255)
    assert float(Defence(0.1 / 255).stored(off, off)) == pytest.approx(0.5 / 255)


def test_gradients_pass_through_rounding():
    images = torch.full((1, 1, 2, 2), 0.5)
    z = torch.zeros(1, 1, 2, 2, requires_grad=True)
    defence = Defence(0.2)
    defence.stored(images, defence.apply(images, z)).sum().backward()
    torch.testing.assert_close(z.grad, torch.full((1, 1, 2, 2), 0.1))  # 2 · 0.2 · σ'(0)


@pytest.mark.parametrize("body", ["mnist", "cifar", "small"])
def test_a_fresh_robustifier_changes_next_to_nothing(body: str):
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    robustifier = build_robustifier(body, (3, 8, 8), Defence(0.3, rounded=False))
    assert robustifier(images).shape == images.shape
    assert float((robustifier(images) - images).detach().abs().max()) < 0.02
    seeds = [
        build_robustifier(body, (3, 8, 8), Defence(), seed=seed).body[0].weight for seed in (1, 2)
    ]
    assert not torch.equal(*seeds)


def test_what_makes_no_sense_is_refused():
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(ArgumentError, match="at most 1"):
            Defence(bad)
    with pytest.raises(ArgumentError, match="linf"):
        Defence(0.1, "l1")
    with pytest.raises(ArgumentError, match="even sides"):
        build_robustifier("small", (1, 7, 8), Defence())
    with pytest.raises(ArgumentError, match="did you mean mnist"):
        build_robustifier("mnits", (1, 8, 8), Defence())


def test_what_was_pushed_out_of_the_box_comes_back():
    images = torch.tensor([[[[0.0, 0.0, 1.0, 1.0, 0.5]]]])
    z = torch.tensor([[[[-1.0, -1.0, 1.0, 1.0, 1.0]]]], requires_grad=True)
    defence = Defence(0.2)
    reached = defence.reached(images, z)
    assert torch.equal(reached, defence.apply(images, z))
    wanted = torch.tensor([[[[-1.0, 1.0, 1.0, -1.0, 1.0]]]])  # slopes: descent goes the other way
    reached.backward(wanted)
    slope = float(0.4 * torch.sigmoid(torch.tensor(1.0)) * torch.sigmoid(torch.tensor(-1.0)))
    # Black pixels come back where descent makes them brighter, white ones where darker.
    hoped = torch.tensor([[[[-slope, 0.0, slope, 0.0, slope]]]])
    torch.testing.assert_close(z.grad, hoped)
    still = z.detach().clone().requires_grad_()
    defence.apply(images, still).backward(wanted)
    assert torch.equal(still.grad[..., :4], torch.zeros(1, 1, 1, 4))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_attacker_through_a_robustifier_meets_slopes_where_pixels_were_clipped(sign: float):
    robustifier = build_robustifier("mnist", (1, 4, 4), Defence(0.3))
    with torch.no_grad():
        robustifier.body[-1].bias.fill_(-1.0)  # black stays black: clipped
    images = torch.zeros(1, 1, 4, 4, requires_grad=True)
    # Attackers ascend and defenders descend: both signs have to pass.
    (sign * robustifier(images)).sum().backward()
    assert bool((sign * images.grad > 0.5).all())
    torch.testing.assert_close(robustifier(images), robustifier(images.detach()))
