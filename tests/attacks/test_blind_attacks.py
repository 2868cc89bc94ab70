"""Attacks without gradients, triggers, and gradients through what has none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from suture.attacks import BPDA, PGD, SPSA, Backdoor, HopSkipJump, Square, poison
from suture.attacks.geometry import distance
from suture.attacks.oracle import Oracle
from suture.attacks.steps import Rows
from suture.errors import ArgumentError
from suture.rng import Stream
from suture.testing.exact import ExactLinear, ExactRandom, classified_batch
from suture.types import Batch
from tests.attacks.test_pgd import grey_case


def test_spsa_estimates_the_gradient():
    model, batch, _, w = grey_case()
    oracle = Oracle(model, batch.images, batch.labels, targeted=False, stream=Stream(0), eot=1)
    state = Rows(clean=batch.images, rows=torch.arange(6), here=batch.images)
    estimate = SPSA(samples=4000)._estimate(oracle, state, 0)
    assert (oracle.queries == 4000).all()
    sign = torch.where(batch.labels == 0, 1.0, -1.0)[:, None]
    cosine = nn.functional.cosine_similarity(estimate.flatten(1), sign * w, dim=1)
    assert (cosine > 0.98).all()
    assert torch.allclose(estimate.flatten(1).norm(dim=1), w.norm(), rtol=0.1)


def test_spsa_spends_its_samples_and_one():
    model, batch, gap, w = grey_case()
    eps = 0.5 * float(gap.min() / w.abs().sum())
    result = SPSA(eps=eps, steps=3, samples=10)(model, batch)
    assert (result.queries == 3 * 11).all()
    with pytest.raises(ArgumentError, match="even number"):
        SPSA(samples=7)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_hop_skip_jump_comes_near_the_boundary(norm: str):
    model, batch, gap, w = grey_case()
    exact = gap / (w.norm() if norm == "l2" else w.abs().sum())
    far = HopSkipJump(norm=norm, steps=1)(model, batch)
    near = HopSkipJump(norm=norm, steps=20)(model, batch)
    assert far.success.all() and near.success.all()
    away = distance(norm, near.images - batch.images)
    assert (away >= exact * 0.999).all()
    assert (away <= exact * (1.1 if norm == "l2" else 1.6)).all()
    assert (away <= distance(norm, far.images - batch.images)).all()


def test_hop_skip_jump_sees_decisions_only():
    class Decisions(ExactLinear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = super().forward(images)
            return torch.eye(2)[logits.argmax(1)]

    model, batch, _, _ = grey_case()
    hard = Decisions((1, 4, 4), classes=2)
    attack = HopSkipJump(steps=3)
    assert torch.equal(attack(model, batch).images, attack(hard, batch).images)


def test_hop_skip_jump_gives_up_without_a_start():
    class Always(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[1.0, 0.0]]).expand(len(images), -1)

    batch = Batch(torch.rand(3, 1, 4, 4), torch.zeros(3, dtype=torch.int64))
    result = HopSkipJump(tries=7)(Always(), batch)
    assert (result.queries == 7).all() and torch.equal(result.images, batch.images)


def test_badnets_square_is_white_and_bottom_right():
    images = torch.rand(2, 3, 8, 9)
    stamped = Backdoor().stamp(images)
    assert (stamped[:, :, 5:, 6:] == 1).all()
    rest = torch.ones(8, 9, dtype=torch.bool)
    rest[5:, 6:] = False
    assert torch.equal(stamped[:, :, rest], images[:, :, rest])


def test_any_patch_place_and_blend():
    images = torch.full((1, 2, 6, 6), 0.5)
    patch = (((1.0, 0.0),), ((0.0, 1.0),))
    stamped = Backdoor(patch=patch, place="top left", blend=0.5, margin=1).stamp(images)
    assert stamped[0, 0, 1, 1:3].tolist() == [0.75, 0.25]
    assert stamped[0, 1, 1, 1:3].tolist() == [0.25, 0.75]
    assert float((stamped != 0.5).sum()) == 4
    centred = Backdoor(place="centre").stamp(torch.zeros(1, 1, 7, 7))
    assert (centred[0, 0, 2:5, 2:5] == 1).all()
    for wrong in (
        {"patch": ((2.0,),)},
        {"patch": ()},
        {"place": "left"},
        {"blend": 1.5},
        {"margin": -1},
    ):
        with pytest.raises(ArgumentError):
            Backdoor(**wrong)
    for misfit in (Backdoor(place=(5, 5)), Backdoor(margin=4), Backdoor(patch=(((1.0,),),) * 3)):
        with pytest.raises(ArgumentError):
            misfit.stamp(images)


def test_poison_stamps_and_relabels_a_share():
    images = torch.rand(50, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, torch.arange(50) % 5)
    poisoned, mask = poison(batch, 2, share=0.25, generator=3)
    assert int(mask.sum()) == 10 and not mask[batch.labels == 2].any()
    assert (poisoned.labels[mask] == 2).all()
    assert torch.equal(poisoned.images[mask], Backdoor().stamp(images[mask]))
    assert torch.equal(poisoned.images[~mask], images[~mask])
    assert torch.equal(poisoned.labels[~mask], batch.labels[~mask])
    assert torch.equal(poison(batch, 2, share=0.25, generator=3)[1], mask)
    assert not torch.equal(poison(batch, 2, share=0.25, generator=4)[1], mask)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(poison(batch[order], 2, share=0.25, generator=3)[1], mask[order])
    assert not poison(batch, 2, share=0.0)[1].any()


def quantised(images: torch.Tensor) -> torch.Tensor:
    return (images * 4).round() / 4


class Masked(nn.Module):
    """A classifier behind a quantiser: its gradient is zero everywhere."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(quantised(images))


def test_bpda_opens_a_quantiser():
    model = ExactLinear((1, 6, 6))
    masked, opened = Masked(model), BPDA(model, forward=quantised)
    batch = classified_batch(masked, (1, 6, 6), n=20, seed=0)[:19]
    with torch.no_grad():
        assert torch.equal(masked(batch.images), opened(batch.images))
    attack = PGD(eps=0.15, steps=20, random_start=False)
    assert not attack(masked, batch).success.any()
    found = attack(masked, batch, transfer_from=opened)
    assert torch.equal(found.success, attack(opened, batch).success)
    assert found.success.float().mean() > 0.8


def test_bpdas_gradient_is_the_stand_ins():
    model = ExactLinear((1, 2, 2))
    images = torch.rand(3, 1, 2, 2, requires_grad=True)
    opened = BPDA(model, forward=quantised, backward=lambda x: 3 * x)
    (gradient,) = torch.autograd.grad(opened(images)[:, 1].sum(), images)
    assert torch.allclose(gradient.flatten(1), 3 * model.weight[1].expand(3, -1))
    assert BPDA(ExactRandom((1, 2, 2)), forward=quantised).randomised


def test_square_can_average_losses_without_early_acceptance():
    model = ExactRandom((3, 7, 6))
    batch = classified_batch(model, (3, 7, 6), n=9, seed=2)[:8]
    by_losses, by_logits = (
        Square(eps=0.02, queries=30, eot=3, eot_of=of, early_stop=False)(model, batch)
        for of in ("losses", "logits")
    )
    assert (by_losses.queries[by_losses.clean_right] == 30).all()
    assert not torch.equal(by_losses.images, by_logits.images)
