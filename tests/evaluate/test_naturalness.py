"""Distances and evenness by hand and against the textbook formula."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn

from suture.errors import ArgumentError
from suture.evaluate.naturalness import changes, features, frechet, pielou, transferred


def test_a_set_is_at_distance_zero_from_itself():
    images = torch.rand(20, 1, 6, 6)
    assert frechet(images, images) == pytest.approx(0.0, abs=1e-9)


def test_a_shift_counts_by_its_square():
    images = torch.rand(30, 8, dtype=torch.float64)
    assert frechet(images, images + 0.5) == pytest.approx(8 * 0.25)


def test_two_scales_in_one_dimension():
    """Standard deviations 1 and 3 with equal means: (3 - 1)²."""
    one = torch.tensor([[-1.0], [1.0]]) / math.sqrt(2)
    assert frechet(one, 3 * one) == pytest.approx(4.0)


@pytest.mark.parametrize("n", [60, 4])
def test_the_textbook_formula(n: int):
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    other = one @ torch.randn(5, 5, generator=generator, dtype=torch.float64) + 1
    covariances = [torch.cov(part.T).numpy() for part in (one, other)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = float((one.mean(0) - other.mean(0)).square().sum())
    expected += covariances[0].trace() + covariances[1].trace() - 2 * root.trace()
    assert frechet(one, other) == pytest.approx(expected, rel=1e-4)
    assert frechet(other, one) == pytest.approx(expected, rel=1e-4)


def test_too_few_examples_are_refused():
    with pytest.raises(ArgumentError, match="at least two"):
        frechet(torch.rand(1, 3), torch.rand(4, 3))
    with pytest.raises(ArgumentError, match="one length"):
        frechet(torch.rand(4, 3), torch.rand(4, 5))


def test_evenness():
    assert pielou(torch.arange(10), 10) == pytest.approx(1.0)
    assert pielou(torch.zeros(7, dtype=torch.int64), 10) == 0.0
    assert pielou(torch.tensor([0, 1]), 4) == pytest.approx(0.5)
    skewed = pielou(torch.tensor([0, 0, 0, 1]), 2)
    assert skewed == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))


def test_medians_and_maxima():
    clean = torch.zeros(3, 2, 2, 2)
    attacked = clean.clone()
    attacked[1, :, 0, 0] = torch.tensor([0.3, 0.4])
    attacked[2, 0, :, 0] = 1.0
    found = changes(clean, attacked)
    assert (found["pixels_median"], found["pixels_max"]) == (1, 2)
    assert (found["values_median"], found["values_max"]) == (2, 2)
    assert found["l2_median"] == pytest.approx(0.5)
    assert found["l2_max"] == pytest.approx(math.sqrt(2))
    assert (found["linf_median"], found["linf_max"]) == (pytest.approx(0.4), 1)


def test_transfer_and_features():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    images = torch.rand(9, 1, 2, 2)
    with torch.no_grad():
        said = model(images).argmax(1)
        assert torch.allclose(features(model, images), model[:3](images))
    assert transferred(model, images, said) == 0
    assert transferred(model, images, 1 - said) == 9
