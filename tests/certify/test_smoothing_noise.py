"""Noise that is a function of a key: its distribution, its twin, its independence of the batch."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from suture.certify.smoothing import Ablation, Gaussian, noise_of
from suture.certify.smoothing.gaussians import normals
from suture.errors import ArgumentError, BundleError
from suture.rng import bits


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return bits(torch.full((count,), seed), torch.arange(count))


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**40),
    shared=st.booleans(),
    sigma=st.floats(0.01, 3),
)
@settings(max_examples=40, deadline=None)
def test_gaussian_copies_and_their_twin_are_the_same_bits(shape, seed, shared, sigma):
    images = torch.rand(1 if shared else 5, *shape)
    noise, chosen = Gaussian(sigma), keys(5, seed)
    assert torch.equal(noise.copies(images, chosen), noise.again(images, chosen))


@given(side=st.integers(2, 30), keep=st.integers(1, 30), seed=st.integers(0, 2**40))
@settings(max_examples=40, deadline=None)
def test_ablated_copies_and_their_twin_are_the_same_bits(side, keep, seed):
    noise, images = Ablation(min(keep, side * side)), torch.rand(4, 3, side, side)
    chosen = keys(4, seed)
    made = noise.copies(images, chosen)
    assert torch.equal(made, noise.again(images, chosen))
    assert torch.equal(
        (made[:, 0] + made[:, 3]).flatten(1).sum(1).round().int(),
        torch.full((4,), noise.keep, dtype=torch.int32),
    )


def test_values_are_those_of_box_and_muller():
    """Against the definition in float64, from the same random words."""
    chosen = keys(50, 3)
    words = bits(chosen[:, None], torch.arange(100)).numpy().astype(np.uint64)
    u = ((words >> np.uint64(33)).astype(np.float64) + 0.5) / 2**31
    t = (words & np.uint64(0xFFFFFFFF)).astype(np.uint32).astype(np.int32) / 2**32
    radius = np.sqrt(-2 * np.log(u))
    expected = np.concatenate(
        [radius * np.cos(2 * math.pi * t), radius * np.sin(2 * math.pi * t)], 1
    )
    np.testing.assert_allclose(normals(chosen, 200).numpy(), expected, atol=3e-6)


def test_values_are_standard_normal_and_independent():
    values = normals(keys(2000, 7), 784).double().numpy()
    assert stats.kstest(values.flatten(), "norm").pvalue > 1e-4
    # Tails decide large radii: beyond 3, 4 and 4.5 as often as they should.
    for bound in (3.0, 4.0, 4.5):
        expected = values.size * 2 * stats.norm.sf(bound)
        assert abs((np.abs(values) > bound).sum() - expected) < 5 * math.sqrt(expected)
    halves = np.corrcoef(values[:, :392].flatten(), values[:, 392:].flatten())[0, 1]
    rows = np.corrcoef(values[:-1].flatten(), values[1:].flatten())[0, 1]
    squares = np.corrcoef(values[:, :392].flatten() ** 2, values[:, 392:].flatten() ** 2)[0, 1]
    assert max(abs(halves), abs(rows), abs(squares)) < 5 / math.sqrt(values.size / 2)


def test_every_set_of_pixels_is_as_likely():
    made = Ablation(2).copies(torch.rand(1, 1, 1, 5) * 0.8 + 0.1, keys(20_000, 5))
    kept = [tuple(row.nonzero()[:, 0].tolist()) for row in made[:, 0, 0]]
    sets = list(itertools.combinations(range(5), 2))
    found = [kept.count(one) for one in sets]
    assert sum(found) == 20_000 and stats.chisquare(found).pvalue > 1e-4


def test_a_pixel_is_kept_with_all_channels_and_black_is_not_nothing():
    image = torch.zeros(1, 3, 4, 4)
    made = Ablation(5).copies(image, keys(8))
    assert torch.equal(made[:, :3], torch.zeros(8, 3, 4, 4))
    assert torch.equal(made[:, 3], made[:, 4]) and torch.equal(made[:, 4], made[:, 5])
    assert torch.equal(made[:, 3].flatten(1).sum(1), torch.full((8,), 5.0))


@pytest.mark.parametrize("noise", [Gaussian(0.3), Ablation(7)], ids=repr)
def test_a_copy_does_not_depend_on_the_others(noise):
    images, chosen = torch.rand(9, 1, 6, 6), keys(9, 11)
    whole, order = noise.copies(images, chosen), torch.tensor([4, 0, 8])
    assert torch.equal(whole[order], noise.copies(images[order], chosen[order]))
    given_gradients = noise.copies(images.clone().requires_grad_(True), chosen)
    torch.testing.assert_close(given_gradients.detach(), whole, rtol=0, atol=2e-7)
    assert given_gradients.requires_grad


def test_facts_make_the_noise_again():
    for noise in (Gaussian(0.5), Ablation(45)):
        assert noise_of(noise.facts) == noise
    for wrong in (
        {"name": "salt"},
        {"name": "gaussian"},
        {"name": "gaussian", "sigma": "wide"},
        {},
    ):
        with pytest.raises(BundleError):
            noise_of(wrong)
    with pytest.raises(ArgumentError, match="at most 16"):
        Ablation(17).copies(torch.rand(1, 1, 4, 4), keys(1))
