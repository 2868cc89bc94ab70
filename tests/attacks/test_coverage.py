"""DLFuzz and DeepXplore: their objectives by hand, neurons that wake, and other models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import suture
from suture import data, models
from suture.attacks import DeepXplore, DLFuzz
from suture.attacks.coverage import Sleeping
from suture.testing.small import trained


def test_the_objective_of_dlfuzz_by_hand():
    shares = torch.tensor([[0.5, 0.3, 0.15, 0.05]])
    value = DLFuzz(eps=0.1, classes=2).objective(shares.log(), torch.tensor([0]), shares)
    assert value.item() == pytest.approx(0.3 + 0.15 - 0.5)


def test_the_neurons_are_the_inactive_ones_nearest_to_activation():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False), nn.ReLU())
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(4))
    images = torch.tensor([[[[2.0, -1.0], [-3.0, -0.5]]], [[[1.0, 1.0], [1.0, 1.0]]]])
    images.requires_grad_()
    with Sleeping(model) as sleeping:
        model(images)
    total = sleeping.nearest(2)
    assert total.item() == pytest.approx((-1.0 - 0.5) / (6.5 / 4))
    (gradient,) = torch.autograd.grad(total, images)
    assert (gradient[0].flatten() != 0).tolist() == [False, True, False, True]
    assert not gradient[1].any()


def test_sleeping_neurons_change_the_way():
    model, batch = trained(), data.load("digits").test.batch(40)
    plain = DLFuzz(eps=0.2, steps=3, neurons=0)(model, batch)
    awake = DLFuzz(eps=0.2, steps=3, weight=100.0)(model, batch)
    assert not torch.equal(plain.images, awake.images)
    assert plain.success.float().mean() > 0.3


def test_other_models_keep_the_label(tmp_path: Path):
    torch.manual_seed(0)
    first, second = (models.build("digits_cnn") for _ in range(2))
    suture.save(second, tmp_path / "other")
    attack = DeepXplore(eps=0.3, steps=2, beside=(str(tmp_path / "other"),), apart=2.0)
    batch = data.load("digits").test.batch(3)
    images, labels = batch.images, batch.labels
    first, second = first.requires_grad_(False), second.requires_grad_(False)
    found = attack.objective(first(images), labels, images)
    rows = torch.arange(3)
    expected = second(images).softmax(1)[rows, labels] - 2 * first(images).softmax(1)[rows, labels]
    assert found == pytest.approx(expected, abs=1e-6)
