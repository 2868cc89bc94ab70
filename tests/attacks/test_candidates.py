"""Compiled bookkeeping of adaptive attacks against torch, and parameters that want no gradients."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from suture.attacks import PGD
from suture.attacks.against.answers import weighted
from suture.attacks.against.candidates import Kept
from suture.attacks.geometry import margin
from suture.models import frozen
from suture.types import Batch


@pytest.mark.parametrize("classes", [1, 2, 10])
@pytest.mark.parametrize("targeted", [False, True])
def test_candidates_are_judged_as_torch_does(classes: int, targeted: bool):
    generator = torch.Generator().manual_seed(classes)
    # Few values: ties, whose first one argmax takes; and some NaN, which it takes before all.
    logits = torch.randint(-2, 3, (7, 50, classes), generator=generator).float()
    logits[torch.rand(logits.shape, generator=generator) < 0.02] = float("nan")
    goals = torch.randint(classes, (50,), generator=generator)
    odds = torch.rand(7, generator=generator)
    odds /= odds.sum()
    kept = Kept(torch.zeros(50, 1, 2, 2), goals, targeted=targeted, norm="linf", eps=0.1)
    share, gap = kept._judged(logits, torch.arange(50), odds)
    hit = logits.argmax(-1) == goals
    holds = (~hit if targeted else hit).float()
    expected = sum(w * h for w, h in zip(odds.tolist(), holds, strict=True))
    assert torch.equal(share, expected.masked_fill(holds.bool().all(0), 1.0))
    margins = (margin(row, goals) * w for w, row in zip(odds.tolist(), logits, strict=True))
    assert torch.equal(torch.nan_to_num(gap), torch.nan_to_num(sum(margins) * (-1) ** targeted))


def test_only_candidates_in_the_ball_are_kept():
    clean = torch.full((5, 1, 2, 2), 0.95)
    moved = clean.clone()
    moved[0] -= 0.1
    moved[1, 0, 1, 1] -= 0.11
    moved[2, 0, 0, 0] += 0.06
    moved[3, 0, 1, 0] = float("nan")
    kept = Kept(clean, torch.zeros(5, dtype=torch.int64), targeted=False, norm="linf", eps=0.1)
    logits = torch.tensor([0.0, 1.0]).repeat(1, 5, 1)
    kept.see(moved, torch.arange(5), logits, None)
    assert kept.share.tolist() == [0.0, 2.0, 2.0, 2.0, 0.0]
    assert torch.equal(kept.images[0], moved[0]) and torch.equal(kept.images[1:], clean[1:])


@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 0.5, 0.3])])
def test_means_one_after_another(weights: Tensor | None):
    values = torch.randn(3, 11, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    odds = [1.0, 1.0, 1.0] if weights is None else weights.tolist()
    first, second, third = (w * part for w, part in zip(odds, values.unbind(0), strict=True))
    expected = (first + second + third) / (3 if weights is None else 1)
    mean = weighted(values, weights)
    assert torch.equal(mean, expected) and torch.equal(weighted(values.detach(), weights), expected)
    slopes = [torch.autograd.grad(m.sin().sum(), values)[0] for m in (mean, expected)]
    assert torch.equal(*slopes)


class _Watched(nn.Linear):
    wanted: list[bool]

    def forward(self, images: Tensor) -> Tensor:
        self.wanted.append(self.weight.requires_grad)
        return super().forward(images.flatten(1))


def test_parameters_want_no_gradients_inside_an_attack():
    models = [_Watched(4, 3), _Watched(4, 3)]
    for model in models:
        model.wanted = []
    models[0].bias.requires_grad_(False)
    batch = Batch(torch.rand(6, 1, 2, 2), torch.zeros(6, dtype=torch.int64))
    PGD(eps=0.1, steps=2)(models[0], batch, transfer_from=models[1])
    for model in models:
        assert model.wanted and not any(model.wanted)
        assert model.weight.requires_grad and model.weight.grad is None
    assert not models[0].bias.requires_grad, "frozen before, frozen after"
    with pytest.raises(ZeroDivisionError), frozen(*models, None):
        raise ZeroDivisionError
    assert models[0].weight.requires_grad


def test_threads_that_overlap_give_the_gradients_back():
    model = nn.Linear(2, 2)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with frozen(model):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with frozen(model):
        thread.start()
        assert inside.wait(10)
    assert model.weight.requires_grad
    leave.set()
    thread.join()
    assert model.weight.requires_grad
