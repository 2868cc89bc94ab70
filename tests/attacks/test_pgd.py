"""PGD against closed forms: on a linear classifier the best attack is known."""

from __future__ import annotations

import pytest
import torch

from suture.attacks import PGD
from suture.attacks.geometry import distance, margin, project, row_sum
from suture.errors import ArgumentError
from suture.testing.exact import ExactLinear
from suture.types import Batch

SHAPE = (1, 4, 4)


def grey_case() -> tuple[ExactLinear, Batch, torch.Tensor, torch.Tensor]:
    """A two-class linear model on grey images: logit difference ``w·x + b``."""
    model = ExactLinear(SHAPE, classes=2)
    images = torch.full((6, *SHAPE), 0.5) + 0.02 * torch.randn(
        6, *SHAPE, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        logits = model(images)
    w = (model.weight[0] - model.weight[1]).detach()
    return model, Batch(images, logits.argmax(1)), (logits[:, 0] - logits[:, 1]).abs(), w


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_reaches_the_exact_minimal_radius(norm: str):
    model, batch, gap, w = grey_case()
    # The distance to the boundary: |gap| / ||w||_1 for L-infinity, |gap| / ||w||_2 for L2.
    exact = gap / (w.abs().sum() if norm == "linf" else w.norm())
    for row in range(len(batch)):
        one = batch[row : row + 1]
        radius = float(exact[row])
        below, above = (PGD(norm=norm, eps=f * radius, step_size=radius / 4) for f in (0.99, 1.01))
        assert not below(model, one).success
        assert above(model, one).success


def test_restarts_only_cost_what_still_holds():
    model, batch, gap, w = grey_case()
    attack = PGD(norm="linf", eps=0.5 * float(gap.min() / w.abs().sum()), steps=3, restarts=4)
    assert (attack(model, batch).queries == 4 * 4).all()


def test_step_size_defaults_to_madrys_rule():
    with pytest.raises(ArgumentError, match="step_size"):
        PGD(step_size=0.0)
    with pytest.raises(ArgumentError, match="finite eps"):
        PGD(eps=float("inf"))


def test_row_sum_is_a_sum_and_ignores_the_batch():
    values = torch.randn(7, 3, 11, 13)
    assert torch.allclose(row_sum(values), values.sum((1, 2, 3)), atol=1e-4)
    assert torch.equal(row_sum(values[2:3]), row_sum(values)[2:3])
    assert torch.equal(row_sum(torch.ones(2, 5)), torch.tensor([5.0, 5.0]))


def test_projection():
    clean = torch.tensor([[[[0.0, 0.5, 1.0]]]])
    wild = torch.tensor([[[[-3.0, 0.9, 1.7]]]])
    assert project("linf", 0.1, clean, wild).flatten().tolist() == pytest.approx([0.0, 0.6, 1.0])
    near = project("l2", 0.1, clean, wild)
    assert float(distance("l2", near - clean)) == pytest.approx(0.1, abs=1e-6)
    assert torch.equal(project("linf", float("inf"), clean, wild), wild.clamp(0, 1))
    assert project("l0", 1, clean, wild).flatten().tolist() == pytest.approx([0.0, 0.9, 1.0])
    far = torch.tensor([[[[0.5, 0.8, 0.9]]]])  # δ = 0.5, 0.3, -0.1: λ = 0.15 leaves 0.5 in all
    assert project("l1", 0.5, clean, far).flatten().tolist() == pytest.approx([0.35, 0.65, 1.0])
    assert project("l0", 2, clean, far).flatten().tolist() == pytest.approx([0.5, 0.8, 1.0])


def test_l0_counts_pixels_not_channels():
    delta = torch.zeros(1, 3, 2, 2)
    delta[0, :, 0, 0] = 1.0
    assert float(distance("l0", delta)) == 1.0
    assert float(distance("l1", delta)) == 3.0


def test_margin_by_hand():
    logits = torch.tensor([[1.0, 4.0, 2.0], [1.0, 4.0, 4.0]])
    assert margin(logits, torch.tensor([1, 0])).tolist() == [2.0, -3.0]
    assert margin(logits, torch.tensor([0, 1])).tolist() == [-3.0, 0.0]
