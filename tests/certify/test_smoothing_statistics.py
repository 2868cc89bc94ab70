"""Bounds, tests and radii, against scipy, exact fractions and enumeration."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from statistics import NormalDist

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from suture.certify.smoothing import ABSTAIN, Ablation, Gaussian, lower_bound, prediction
from suture.certify.smoothing.rechecking import lower_tail, share_needed, upper_tail

IMAGE = torch.zeros(1, 28, 28)


@given(n=st.integers(1, 5000), share=st.floats(0, 1), alpha=st.sampled_from([0.001, 0.05]))
def test_the_bound_is_clopper_and_pearson_s(n, share, alpha):
    hits = round(n * share)
    found = stats.binomtest(hits, n, alternative="greater").proportion_ci(1 - alpha, "exact")
    assert lower_bound(hits, n, alpha) == pytest.approx(found.low, abs=1e-12)


@pytest.mark.parametrize("share", [0.5, 0.7, 0.93, 0.999])
def test_the_bound_is_too_high_at_most_as_often_as_alpha_says(share):
    """Exactly: over all counts, weighted with their probability."""
    n, alpha = 200, 0.01
    wrong = [k for k in range(n + 1) if lower_bound(k, n, alpha) > share]
    assert sum(stats.binom.pmf(k, n, share) for k in wrong) <= alpha


@given(first=st.integers(0, 300), second=st.integers(0, 300), alpha=st.sampled_from([0.001, 0.1]))
def test_prediction_abstains_as_a_binomial_test_says(first, second, alpha):
    found = prediction([first, second, 0], alpha)
    top = max(first, second)
    if first == second:
        assert found == ABSTAIN
        return
    chance = stats.binomtest(top, first + second, 0.5).pvalue
    if abs(chance - alpha) > 1e-9:
        assert found == ([first, second].index(top) if chance <= alpha else ABSTAIN)


def test_tails_are_the_binomial_s():
    for n, hits, share in ((100, 70, 0.6), (2000, 1990, 0.99), (100_000, 99_950, 0.9993)):
        assert upper_tail(hits, n, share) == pytest.approx(
            stats.binom.sf(hits - 1, n, share), rel=1e-6
        )
        assert lower_tail(hits, n, share) == pytest.approx(
            stats.binom.cdf(hits, n, share), rel=1e-6
        )


@given(share=st.floats(0.5001, 0.99999), sigma=st.floats(0.1, 2))
def test_the_gaussian_radius_and_what_it_needs_are_inverse(share, sigma):
    radius = Gaussian(sigma).radius(share, IMAGE)
    assert radius == pytest.approx(sigma * NormalDist().inv_cdf(share), rel=1e-6)
    assert share_needed({"name": "gaussian", "sigma": sigma}, radius, IMAGE) == pytest.approx(share)


@given(share=st.floats(0.5001, 1.0), keep=st.integers(1, 100))
def test_the_ablation_radius_is_the_largest_that_fractions_allow(share, keep):
    radius = int(Ablation(keep).radius(share, IMAGE))
    left = [Fraction(math.comb(784 - r, keep), math.comb(784, keep)) for r in (radius, radius + 1)]
    holds = [Fraction(share) - (1 - part) > Fraction(1, 2) for part in left]
    assert holds == [True, False]
    needed = share_needed({"name": "ablation", "keep": keep}, float(radius), IMAGE)
    assert needed == pytest.approx(float(Fraction(3, 2) - left[0])) and needed < share


def test_ablation_by_hand():
    """Four pixels, one kept: each changed pixel touches a quarter of the copies."""
    image = torch.zeros(1, 2, 2)
    assert [Ablation(1).radius(share, image) for share in (0.6, 0.8, 1.0)] == [0.0, 1.0, 1.0]


def test_ablation_holds_for_every_change_of_a_tiny_image():
    """All sets of two of six pixels, all black and white images with up to ρ changed pixels."""
    table = torch.rand(6, 6, 2, 2, generator=torch.Generator().manual_seed(0)) > 0.35

    def share(image: tuple[int, ...]) -> float:
        sets = list(itertools.combinations(range(6), 2))
        return sum(bool(table[i, j, image[i], image[j]]) for i, j in sets) / len(sets)

    for image in itertools.product((0, 1), repeat=6):
        p = share(image)
        if p <= 0.5:
            continue
        radius = int(Ablation(2).radius(p, torch.zeros(1, 2, 3)))
        for other in itertools.product((0, 1), repeat=6):
            if sum(a != b for a, b in zip(image, other, strict=True)) <= radius:
                assert share(other) > 0.5
