"""The regression model: Formula 3 by hand, and every class's gradient through its own mask."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from suture.errors import ArgumentError
from suture.repairs.dare import slice_classes
from suture.repairs.dare.graph import sliceable
from suture.repairs.dare.regression import Mask, Regression, masks, no_masks, watch
from suture.testing.small import digits, trained
from tests.repairs.dare.test_slicing import NETS, Residual, images, shaken


def tiny() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        model[1].bias.zero_()
    return model


def test_formula_three_by_hand():
    keys = torch.tensor([[True, True], [True, False]])
    every = torch.ones(2, 2, 2, dtype=torch.bool)
    model = tiny()
    node = watch(sliceable(model, (1, 1, 2)), 1).node
    regression = Regression(model, node, Mask(keys, {"1.weight": every}), (1, 1, 2))
    pixels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 1, 1, 2)
    targets = torch.tensor([[0.0, 1.0], [5.0, 100.0]])
    labels = torch.tensor([0, 1])
    # Values (1, 3) and (2, 4). Class 0: (1 + 4)/2; class 1 has one key neuron: 9/1.
    assert regression.losses(pixels, labels, targets).tolist() == [2.5, 9.0]
    # Mean over two images: class 0 adds (1·x, 2·x)/2, class 1 adds (-6·x, 0)/2.
    found = regression.gradients(pixels, labels, targets)["1.weight"]
    assert found.tolist() == [[0.5, -3.0], [1.0, 0.0]]


def test_a_class_moves_its_key_synapses_only():
    """Against one backward pass an image, masked by its own class."""
    model, shape = shaken(NETS["convolutional"][0](), 3), NETS["convolutional"][1]
    batch = images(24, shape, 3, 4)
    slices = slice_classes(model, batch, q=60)
    place = watch(slices.graph, 1)
    mask = masks(slices, place)
    regression = Regression(copy.deepcopy(model), place.node, mask, shape)
    targets = torch.randn(24, mask.neurons.shape[1], generator=torch.Generator().manual_seed(0))
    found = regression.gradients(batch.images, batch.labels, targets)
    expected = {name: torch.zeros_like(w) for name, w in regression.weights().items()}
    for i in range(24):
        one = slice(i, i + 1)
        label = int(batch.labels[i])
        loss = regression.losses(batch.images[one], batch.labels[one], targets[one]).sum() / 24
        weights = regression.weights()
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for name, gradient in zip(weights, gradients, strict=True):
            expected[name] += gradient * mask.synapses[name][label]
    assert set(found) == {"1.weight", "4.weight", "9.weight"}
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5)
        never = ~mask.synapses[name].any(0)
        assert not bool(gradient[never].any())
    assert any(bool((~mask.synapses[name].any(0)).any()) for name in found)


def test_without_slicing_it_is_the_mean_squared_error():
    model = trained()
    place = watch(sliceable(model, (1, 8, 8)), 1)
    batch = digits().train.batch(40)
    with torch.no_grad():
        values = model[:8](batch.images)
    targets = values + 0.5
    regression = Regression(copy.deepcopy(model), place.node, no_masks(10, 64), (1, 8, 8))
    losses = regression.losses(batch.images, batch.labels, targets)
    torch.testing.assert_close(losses, torch.full((40,), 0.25), rtol=1e-4, atol=1e-5)


def test_logits_and_cross_entropy():
    regression = Regression(copy.deepcopy(trained()), None, no_masks(10, 64), (1, 8, 8))
    batch = digits().train.batch(20)
    expected = nn.functional.cross_entropy(trained()(batch.images), batch.labels, reduction="none")
    found = regression.losses(batch.images, batch.labels, torch.zeros(20, 64))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert set(regression.weights()) == {"1.weight", "3.weight", "6.weight", "8.weight"}


def test_p_counts_layers_with_weights():
    graph = sliceable(trained(), (1, 8, 8))
    assert [watch(graph, p).layer for p in range(4)] == ["8.weight", "6.weight", "3.weight",
                                                        "1.weight"]  # fmt: skip
    with pytest.raises(ArgumentError, match="p from 0 to 3"):
        watch(graph, 4)


def test_a_channel_is_watched_by_its_mean():
    model = shaken(Residual(), 2)
    graph = sliceable(model, (1, 8, 8))
    place = watch(graph, 1)
    batch = images(5, (1, 8, 8), 3)
    regression = Regression(model, place.node, no_masks(3, 6), (1, 8, 8))
    seen = {}
    model.pool.register_forward_pre_hook(lambda m, args: seen.update(value=args[0]))
    with torch.no_grad():
        model(batch.images)
    means = seen["value"].mean((2, 3))
    losses = regression.losses(batch.images, batch.labels, torch.zeros(5, 6))
    torch.testing.assert_close(losses, means.square().mean(1), rtol=1e-4, atol=1e-5)
