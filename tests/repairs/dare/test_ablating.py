"""Neurons switched off: by hand, against zeroed weights, and whether slices choose."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from suture.errors import ArgumentError
from suture.repairs.dare import ablation, slice_classes, watch
from suture.repairs.dare.ablating import ablated
from suture.rng import Stream
from suture.testing.repairs import trained
from suture.testing.small import digits
from suture.types import Batch


def net() -> nn.Module:
    """Two pixels, two hidden neurons; class 0 is the first pixel, class 1 the second."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        for layer in (model[1], model[3]):
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
        model[3].bias.copy_(torch.tensor([0.0, 0.1]))
    return model.eval()


PIXELS = torch.tensor([[1.0, 0.0], [0.9, 0.0], [0.0, 1.0], [0.0, 0.8]]).view(4, 1, 1, 2)
BATCH = Batch(PIXELS, torch.tensor([0, 0, 1, 1]))


def test_scores_and_what_is_left_by_hand():
    """Of class 0: Δy of the hidden neurons 0.475 and -0.45, and of its logit 0.475. The synapse
    from the first to the logit contributes 0.475 · 1 · 0.475; from the second nothing goes there.
    Without the first neuron logits of class 0 are (0, 0.1): all of class 0 wrong, none of class 1.
    """
    slices = slice_classes(net(), BATCH)
    layer = slices.graph.layers[0].name
    assert slices.scores(0)[layer].tolist() == pytest.approx([0.475**2, 0.0])
    rows = ablation(slices, watch(slices.graph, 1), BATCH, 0, 1, stream=Stream(0))
    found = {row.way: (row.own, row.others) for row in rows}
    assert found["none"] == (1.0, 1.0)
    assert found["key"] == found["change"] == (0.0, 1.0)


@pytest.mark.parametrize("at", [1, 2])
def test_switching_off_is_what_zeroed_weights_do(at):
    """Independent: the next layer reads zeros where its weights are zero."""
    model, images = trained(), digits().test.batch(20).images
    slices = slice_classes(model, digits().train.batch(200))
    place = watch(slices.graph, at)
    off = torch.arange(slices.graph.network.nodes[place.node].shape[0]) % 3 == 0
    cut = copy.deepcopy(model)
    name = place.layer.removesuffix(".weight")
    with torch.no_grad():
        layer = cut.get_submodule(name)
        layer.weight[off] = 0.0
        layer.bias[off] = 0.0
        torch.testing.assert_close(ablated(slices.graph, place.node, images, off), cut(images))


def test_more_neurons_than_there_are():
    slices = slice_classes(net(), BATCH)
    with pytest.raises(ArgumentError, match="1 to 2 neurons"):
        ablation(slices, watch(slices.graph, 1), BATCH, 0, 3, stream=Stream(0))


def test_key_neurons_hurt_their_class_more_than_random_ones():
    model, batch = trained(), digits().test.batch(300)
    slices = slice_classes(model, digits().train.batch(1000))
    place, lost = watch(slices.graph, 1), {"key": 0.0, "random": 0.0}
    for label in range(10):
        rows = {r.way: r for r in ablation(slices, place, batch, label, 6, stream=Stream(label))}
        for way in lost:
            lost[way] += rows["none"].own - rows[way].own
    assert lost["key"] > 2 * lost["random"] > -1
