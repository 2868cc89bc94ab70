"""Signs of gradient masking, on models made to show one each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from suture.attacks import Square
from suture.evaluate import Plan, Subject, Tier, evaluate
from suture.evaluate.health import signs
from suture.testing.exact import ExactLinear, ExactRandom, classified_batch
from suture.types import Batch

SHAPE = (1, 4, 4)


class Wrapped(nn.Module):
    """The honest model, spoilt by a subclass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = ExactLinear(SHAPE)


class Softmax(Wrapped):
    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images).softmax(1)


class Quantised(Wrapped):
    def forward(self, images: Tensor) -> Tensor:
        return self.inner((images * 8).round() / 8)


class Detached(Wrapped):
    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images.detach()) + 0 * self.inner.bias


class Untracked(Wrapped):
    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)


class Noisy(Wrapped):
    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images + 0.1 * torch.randn_like(images))


class Purifying(Wrapped):
    """Takes a gradient step of its own before it answers."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.enable_grad():
            moved = images.detach().requires_grad_(True)
            (step,) = torch.autograd.grad(self.inner(moved).logsumexp(1).sum(), moved)
        return self.inner(images + 0.01 * step)


@pytest.fixture
def batch() -> Batch:
    return classified_batch(ExactLinear(SHAPE), SHAPE, n=20, seed=1)


def test_an_honest_model_shows_none(batch: Batch):
    assert signs(ExactLinear(SHAPE), batch) == []


@pytest.mark.parametrize(
    ("model", "sign"),
    [
        (Softmax(), "softmax outputs"),
        (Quantised(), "zero gradients: 20 of 20"),
        (Detached(), "no gradients"),
        (Untracked(), "no gradients"),
        (Noisy(), "randomness: the same image"),
        (ExactRandom(SHAPE), "randomness: every input draws anew"),
        (Purifying(), "optimisation at inference"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_each_sign_is_named_with_a_remedy(model: nn.Module, sign: str, batch: Batch):
    found = signs(model, batch)
    assert len(found) == 1, found
    assert sign in found[0]
    assert found[0].count(".") >= 2, "what was seen, and what to do"


def test_looking_leaves_no_trace(batch: Batch):
    model = Noisy().train()
    before, modes = torch.get_rng_state(), [m.training for m in model.modules()]
    signs(model, batch)
    assert torch.equal(before, torch.get_rng_state())
    assert modes == [m.training for m in model.modules()]
    assert all(p.grad is None for p in model.parameters())


def test_the_clean_row_carries_them(batch: Batch):
    plan = Plan(attack=Square(eps=0.05, queries=5), tier=Tier(steps=2), radii=())
    records = evaluate([Subject("undefended", Softmax(), "m")], batch, plan, data="x").records
    (clean,) = [r for r in records if r.metric == "clean accuracy"]
    assert any("softmax" in warning for warning in clean.warnings)
