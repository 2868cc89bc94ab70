"""Grad-CAM by hand, and its grid."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from suture import models
from suture.errors import ModelError
from suture.report.heatmaps import HeatmapPanel, grad_cam, heatmap_drawing
from suture.testing.small import digits, trained


def tiny() -> nn.Module:
    """Two channels, x and -2x; the logit of class 0 is 3·sum(first) + 1·sum(second)."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(8, 2)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -2.0]).view(2, 1, 1, 1))
        model[2].weight.copy_(torch.tensor([[3.0] * 4 + [1.0] * 4, [-3.0] * 4 + [1.0] * 4]))
        model[2].bias.zero_()
    return model


def test_by_hand():
    """α = (3, 1): the map is 3x - 2x = x for class 0; α = (-3, 1): -5x, so 0, for class 1."""
    pixels = torch.tensor([[0.0, 0.25], [0.5, 1.0]]).view(1, 1, 2, 2)
    both = pixels.repeat(2, 1, 1, 1)
    found = grad_cam(tiny(), both, torch.tensor([0, 1]))
    torch.testing.assert_close(found[0], pixels[0, 0])
    assert not bool(found[1].any())


def test_it_leaves_the_model_alone():
    batch = digits().test.batch(5)
    before = models.fingerprint(trained())
    gradients = [None if p.grad is None else p.grad.clone() for p in trained().parameters()]
    found = grad_cam(trained(), batch.images, batch.labels)
    assert found.shape == (5, 4, 4)
    assert float(found.min()) >= 0 and float(found.amax((1, 2)).min()) == pytest.approx(1.0)
    assert models.fingerprint(trained()) == before
    for parameter, old in zip(trained().parameters(), gradients, strict=True):
        assert parameter.grad is None or torch.equal(parameter.grad, old)
    assert not trained()[3]._forward_hooks


def test_no_positions_no_map():
    with pytest.raises(ModelError, match="convolutions"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.rand(1, 1, 2, 2),
                 torch.tensor([0]))  # fmt: skip


def test_the_grid_says_what_it_shows():
    image = torch.rand(1, 8, 8).tolist()
    panels = [
        HeatmapPanel("seven", image),
        HeatmapPanel("DARE: seven", image, torch.rand(4, 4).tolist()),
    ]
    made = heatmap_drawing("heat", "Where", "Read.", [("clean", panels), ("BIM", panels[:1])])
    assert made.svg.startswith("<svg") and made.svg.count("<image") == 3
    assert made.rows == (("clean", "seven", "DARE: seven"), ("BIM", "seven"))
    assert "DARE: seven" in made.alt
