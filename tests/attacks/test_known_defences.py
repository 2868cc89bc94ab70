"""What a query of a known defence averages, and which candidate is kept: by hand, on toys."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from suture.attacks import PGD, Attack
from suture.attacks.against.answers import Answers
from suture.attacks.against.candidates import Kept
from suture.attacks.oracle import Oracle
from suture.evaluate.rows import share_right
from suture.types import Batch, Norm, RepairedModel

ODDS = (0.5, 0.3, 0.2)


class Level(nn.Module):
    """Right (class 0) as long as the mean of the image is below a threshold."""

    def __init__(self, threshold: float, slope: float = 1.0) -> None:
        super().__init__()
        self.threshold, self.slope = threshold, slope

    def forward(self, images: Tensor) -> Tensor:
        over = self.slope * (images.flatten(1).mean(1) - self.threshold)
        return torch.stack([-over, over], 1)


class Three(RepairedModel):
    """Draws one of three levels, with probabilities that differ."""

    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList([Level(0.52), Level(0.55, 2.0), Level(0.58, 0.5)])

    @property
    def randomised(self) -> bool:
        return True

    def support(self) -> tuple[tuple[float, nn.Module], ...]:
        return tuple(zip(ODDS, self.members, strict=True))

    def undefended(self) -> nn.Module:
        return self.members[0]

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        share = torch.rand(len(images)) if noise is None else (noise % 1000).abs() / 1000
        chosen = (share >= ODDS[0]).long() + (share >= ODDS[0] + ODDS[1])
        return self.each(images)[chosen, torch.arange(len(images))]


class Wobbling(nn.Module):
    """A level that every draw moves by up to 0.05; too many draws to know them all."""

    randomised = True

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        if noise is None:
            noise = torch.randint(2**62, (len(images),))
        moved = (noise % 1001).to(images.dtype) / 1001 * 0.1 - 0.05
        over = images.flatten(1).mean(1) - 0.55 - moved
        return torch.stack([-over, over], 1)


def grey(n: int, level: float = 0.5) -> Batch:
    return Batch(torch.full((n, 1, 2, 2), level), torch.zeros(n, dtype=torch.int64))


def asked(model: nn.Module, images: Tensor, *, eot: int, adaptive: bool) -> tuple[Answers, Tensor]:
    answers = Answers(model, eot=eot, adaptive=adaptive)
    keys = torch.arange(len(images)) * 7_919
    return answers, answers(images, keys, torch.zeros_like(keys), 0)


def test_the_exact_mean_by_hand():
    """At 0.56 the levels give 0.04, 2·0.01 and 0.5·(-0.02) to class 1."""
    answers, draws = asked(Three(), grey(1, 0.56).images, eot=9, adaptive=True)
    assert answers.exact and answers.draws == 1
    assert draws.shape == (3, 1, 2)
    expected = 0.5 * 0.04 + 0.3 * 0.02 + 0.2 * -0.01
    mean = answers.mean(draws)
    assert mean.tolist() == [pytest.approx([-expected, expected], abs=1e-6)]


def test_whoever_does_not_know_the_programs_meets_fresh_draws():
    answers, draws = asked(Three(), grey(4, 0.56).images, eot=9, adaptive=False)
    assert not answers.exact and answers.weights is None and draws.shape == (9, 4, 2)
    assert torch.allclose(answers.mean(draws), draws.mean(0))
    assert len(draws[:, :, 1].unique()) > 1


def test_common_draws_are_the_same_at_every_query():
    answers, first = asked(Wobbling(), grey(5).images, eot=6, adaptive=True)
    keys = torch.arange(5) * 7_919
    again = answers(grey(5).images, keys, keys * 0 + 41, 3)
    assert not answers.exact and answers.draws == 6
    assert torch.equal(first, again)
    fresh, before = asked(Wobbling(), grey(5).images, eot=6, adaptive=False)
    assert not torch.equal(before, fresh(grey(5).images, keys, keys * 0 + 41, 3))


def right(*draws: bool) -> list[list[float]]:
    """Logits of each draw, right or wrong by a margin of 1."""
    return [[1.0, 0.0] if one else [0.0, 1.0] for one in draws]


def test_shares_and_ties_by_hand():
    batch = grey(2)
    kept = Kept(batch.images, batch.labels, targeted=False, norm="linf", eps=0.1)
    weights, rows = torch.tensor(ODDS), torch.tensor([0, 1, 0, 0])
    images = torch.stack([torch.full((1, 2, 2), v) for v in (0.51, 0.52, 0.53, 0.54)])
    draws = (True, True, False, True), (True, False, True, False), (False, True, True, False)
    logits = torch.tensor([right(*draw) for draw in draws])
    assert kept._judged(logits, rows, weights)[0].tolist() == pytest.approx([0.8, 0.7, 0.5, 0.5])
    assert not kept.see(images, rows, logits, weights).any()
    # Candidates 2 and 3 hold the first image alike, 0.3 + 0.2 against 0.5. Margins: 0.5 - 0.5.
    assert kept.share.tolist() == pytest.approx([0.5, 0.7])
    assert torch.equal(kept.images[1], images[1])
    best = kept.images[0].clone()
    wider = torch.tensor([[[1.0, 0.0]], [[0.0, 5.0]], [[0.0, 1.0]]])
    kept.see(images[:1], torch.tensor([0]), wider, weights)
    assert torch.equal(kept.images[0], images[0]), "the same share, and a lower mean margin"
    assert float(kept.margin[0]) == pytest.approx(0.5 - 5 * 0.3 - 0.2)
    kept.see(best[None], torch.tensor([0]), wider, weights)
    assert torch.equal(kept.images[0], images[0]), "of equals the first stays"
    worse = torch.tensor([[[1.0, 0.0]], [[9.0, 0.0]], [[0.0, 99.0]]])
    kept.see(best[None], torch.tensor([0]), worse, weights)
    assert torch.equal(kept.images[0], images[0]), "a margin does not outweigh a share"


def test_targets_are_judged_the_other_way_round():
    batch = grey(1)
    kept = Kept(batch.images, batch.labels + 1, targeted=True, norm="linf", eps=0.1)
    logits = torch.tensor([right(True), right(False)])
    kept.see(batch.images, torch.tensor([0]), logits, torch.tensor([0.3, 0.7]))
    assert kept.share.tolist() == pytest.approx([0.3]), "what denies the target is what is right"
    assert float(kept.margin[0]) == pytest.approx(0.3 - 0.7)


@pytest.mark.parametrize(
    ("norm", "eps", "inside", "outside"),
    [
        ("linf", 0.1, [0.1, 0.1, 0.1, 0.1], [0.0, 0.0, 0.0, 0.11]),
        ("l2", 0.1, [0.05, 0.05, 0.05, 0.05], [0.08, 0.08, 0.0, 0.0]),
        ("l1", 0.1, [0.1, 0.0, 0.0, 0.0], [0.05, 0.04, 0.02, 0.0]),
        ("l0", 2.0, [0.3, 0.3, 0.0, 0.0], [0.1, 0.1, 0.1, 0.0]),
        ("linf", float("inf"), [0.5, -0.5, 0.0, 0.0], [0.51, 0.0, 0.0, 0.0]),
    ],
)
def test_what_lies_outside_is_not_kept(norm: Norm, eps: float, inside: list, outside: list):
    batch = grey(2)
    kept = Kept(batch.images, batch.labels, targeted=False, norm=norm, eps=eps)
    moved = batch.images + torch.tensor([inside, outside]).reshape(2, 1, 2, 2)
    assert kept.see(moved, torch.arange(2), torch.tensor([right(False, False)]), None).all()
    assert torch.equal(kept.images[0], moved[0]) and float(kept.share[0]) == 0.0
    assert torch.equal(kept.images[1], batch.images[1]) and float(kept.share[1]) == 2.0


@dataclass(frozen=True, kw_only=True)
class Walk(Attack):
    """Asks about brighter and brighter images, and proposes the last."""

    levels: tuple[float, ...] = (0.02, 0.05, 0.08)
    draws: ClassVar[bool] = False

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        for level in self.levels:
            oracle.logits(images + level, rows)
        return images + self.levels[-1]


class Band(nn.Module):
    """Wrong only where the mean lies between two levels."""

    def forward(self, images: Tensor) -> Tensor:
        level = images.flatten(1).mean(1)
        over = 0.01 - (level - 0.55).abs()
        return torch.stack([-over, over], 1)


def test_every_candidate_of_a_transfer_is_judged_on_the_attacked_model():
    """The middle of three iterates fools the judge, and the last does not."""
    walk, batch = Walk(eps=0.1, adaptive=True), grey(3)
    result = walk(Band(), batch, generator=0, transfer_from=Level(9.0))
    assert result.success.all() and result.share.tolist() == [0.0] * 3
    assert torch.allclose(result.images, batch.images + 0.05)
    unaware = dataclasses.replace(walk, adaptive=False)
    assert not unaware(Band(), batch, transfer_from=Level(9.0)).success.any(), "the last counts"


def test_a_transfer_to_a_randomised_model_counts_its_probabilities():
    """A mean of 0.556 is beyond two of the three levels: 0.2 of the draws are right."""
    walk = Walk(eps=0.1, adaptive=True, levels=(0.03, 0.056, 0.01))
    result = walk(Three(), grey(2), generator=0, transfer_from=Level(9.0))
    assert result.share.tolist() == pytest.approx([0.2, 0.2])
    assert torch.allclose(result.images, grey(2).images + 0.056)


SMALL_STEPS = PGD(eps=0.1, loss="margin", random_start=False, eot=10, adaptive=True)


def _left_after(steps: int, model: nn.Module) -> float:
    attack = dataclasses.replace(SMALL_STEPS, steps=steps, step_size=0.1 / min(steps, 20))
    result = attack(model, grey(12), generator=1)
    return float(share_right(model, result.images, grey(12).labels, draws=200).mean())


@pytest.mark.parametrize("model", [Wobbling(), Three()], ids=lambda m: type(m).__name__)
def test_no_image_is_accepted_because_one_average_crossed_the_line(model: nn.Module):
    """One step reaches the far end, where every draw is wrong; small steps cross on the way."""
    assert _left_after(1, model) == 0.0
    assert _left_after(25, model) == 0.0


@pytest.mark.parametrize("model", [Wobbling(), Three()], ids=lambda m: type(m).__name__)
def test_with_the_keeper_switched_off_more_steps_would_leave_more(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
):
    """What the test above is there to see: the search rests on the line."""
    monkeypatch.setattr(Attack, "_kept", lambda *_: None)
    assert _left_after(1, model) == 0.0
    assert _left_after(25, model) > 0.15
