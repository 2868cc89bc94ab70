"""Defended classifiers whose programs are not equally likely."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

import suture
from suture import models
from suture.attacks import PGD, knowing
from suture.errors import ArgumentError
from suture.evaluate.rows import share_right
from suture.repairs.defensyn import DefendedClassifier, parse
from suture.repairs.defensyn.bundling import describe
from suture.rng import bits, integers
from suture.testing.small import digits, trained
from suture.types import Batch

PROGRAMS = tuple(parse(text) for text in ("v0 = 10", "v1 = 10", "v2 = 10; v0 = -10"))
WEIGHTS = (0.5, 0.125, 0.375)
IMAGES = torch.rand(60, 1, 1, 3, generator=torch.Generator().manual_seed(0))


def made(weights: tuple[float, ...] | None = WEIGHTS) -> DefendedClassifier:
    """Features are the three pixels; the head passes them on: program i makes class i win."""
    head = nn.Linear(3, 3)
    with torch.no_grad():
        head.weight.copy_(torch.eye(3))
        head.bias.zero_()
    return DefendedClassifier(nn.Flatten(), head, PROGRAMS, 3, weights).eval()


def test_programs_are_drawn_by_their_weights():
    images, model = IMAGES[:1].expand(40_000, -1, -1, -1), made()
    model.seed(0)
    counts = model(images).argmax(1).bincount(minlength=3) / 40_000
    assert counts.tolist() == pytest.approx(WEIGHTS, abs=0.01)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.seed(None)
        counts = model(images).argmax(1).bincount(minlength=3) / 40_000
    assert counts.tolist() == pytest.approx(WEIGHTS, abs=0.01)


def test_the_low_bits_of_the_noise_decide():
    low = 1 << 32
    ends = [int(share * low) for share in (0.0, 0.5, 0.625, 1.0)]
    model = made()
    for index, (first, after) in enumerate(pairwise(ends)):
        noise = torch.tensor([first, after - 1]) + (torch.tensor([7, -3]) << 32)
        assert (model(IMAGES[:2], noise=noise).argmax(1) == index).all()


def test_without_weights_nothing_has_changed():
    noise, model = bits(torch.arange(60), 3), made(None)
    assert torch.equal(model(IMAGES, noise=noise).argmax(1), integers(noise, 3))
    assert model.odds() == (1 / 3,) * 3 and "cuts" not in model.state_dict()


def test_it_tells_its_weights():
    model = made()
    assert model.odds() == WEIGHTS == tuple(odds for odds, _ in model.support())
    assert share_right(model, IMAGES, torch.full((60,), 2)).tolist() == [0.375] * 60
    noise = bits(torch.arange(60), torch.arange(2000)[:, None])
    mean = model.average(IMAGES, noise)
    exact = sum(odds * one(IMAGES) for odds, one in model.support())
    assert (mean - exact).abs().max() < 0.8 < (mean - model.each(IMAGES).mean(0)).abs().max()


def test_an_attacker_who_knows_it_weighs_as_it_draws():
    """Programs 0 and 2 are right on class 0 only where pixel 0 is large, and never."""
    batch = Batch(IMAGES, torch.zeros(60, dtype=torch.int64))
    found = knowing(PGD(eps=0.01, steps=2))(made(), batch, generator=0)
    assert found.share.tolist() == pytest.approx([0.5] * 60)


def test_weights_are_kept_in_bundles(tmp_path):
    parts = models.cut(trained())
    programs = (parse("v0 = 1"), parse("v1 = v2 * 2"))
    for name, weights in (("drawn", (0.2, 0.8)), ("equal", None)):
        model = DefendedClassifier(parts.encoder, parts.head, programs, parts.features, weights)
        describe(model.eval(), trained(), "penultimate")
        models.save(model, tmp_path / name)
        opened = suture.load(tmp_path / name)
        images, noise = digits().test.batch(40).images, bits(torch.arange(40), 1)
        assert torch.equal(opened(images, noise=noise), model(images, noise=noise))
        assert opened.odds() == model.odds()
        assert models.fingerprint(opened) == models.fingerprint(model)
        assert ("weights" in model.suture_spec) == (weights is not None)


def test_weights_travel_with_the_module():
    model = copy.deepcopy(made()).double()
    noise = bits(torch.arange(60), 5)
    assert torch.equal(
        model(IMAGES.double(), noise=noise).argmax(1), made()(IMAGES, noise=noise).argmax(1)
    )


@pytest.mark.parametrize("wrong", [(0.5, 0.5), (0.5, 0.5, 0.0), (0.9, 0.9, -0.8), (0.1, 0.1, 0.1)])
def test_weights_must_be_probabilities(wrong: tuple[float, ...]):
    with pytest.raises(ArgumentError, match="probabilities"):
        made(wrong)
