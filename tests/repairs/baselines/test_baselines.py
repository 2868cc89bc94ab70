"""Adversarial fine-tuning, PGD training, TRADES: losses by other means, balls, the budget."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from suture import models
from suture.attacks import BIM, CW, FGSM, JSMA, PGD
from suture.engine import Inline
from suture.errors import ArgumentError
from suture.repairs import TRADES, AdversarialTuning, PGDTraining, Status, repair
from suture.repairs.baselines.adversarial import CrossEntropyFit
from suture.repairs.context import Context
from suture.repairs.dare import DARE, Grid
from suture.repairs.tuning import accuracy, halves
from suture.rng import Stream
from suture.testing.small import digits, trained
from suture.types import Batch

GRID = Grid(rates=(1e-3,), epochs=2)


def images(count: int = 200) -> Batch:
    return digits().train.batch(count)


@pytest.mark.parametrize(
    "attack",
    [FGSM(eps=0.1), BIM(eps=0.1), PGD(eps=0.1, steps=5), JSMA(gamma=0.2),
     CW(binary_search_steps=2, steps=20, initial_const=1.0, learning_rate=0.05)],
    ids=lambda a: type(a).__name__,
)  # fmt: skip
def test_fine_tuning_helps_against_its_own_images(attack):
    before = models.fingerprint(trained())
    result = repair(trained(), images(), AdversarialTuning(attack=attack, grid=GRID), generator=1)
    assert models.fingerprint(trained()) == before
    assert result.status is Status.TUNED
    chosen, start = result.trace["search"]["chosen"], result.trace["search"]["before"]
    assert start["score"] == 0.0, "all held-out adversarial images fool the given model"
    assert chosen["score"] > 0.0
    assert chosen["accuracy"] >= result.trace["search"]["floor"]
    assert result.trace["clean"] == result.trace["adversarial"] > 10


def test_only_images_that_fool_the_model_are_tuned_on():
    method = AdversarialTuning(attack=FGSM(eps=0.1), grid=GRID, clean=0.5)
    context = Context.of(Stream(3), Inline(), 64)
    looked, held = images(120), digits().validation.batch(60)
    fit, facts = method.fit(trained(), looked, held, context)
    count = facts["adversarial"]
    adversarial = fit.batch[:count]
    assert accuracy(trained(), adversarial, 64) == 0.0
    assert len(fit.batch) == count + round(0.5 * count)
    assert torch.equal(fit.batch.images[count:], looked.images[: round(0.5 * count)])
    assert accuracy(trained(), fit.judge, 64) == 0.0
    original = {tuple(i.flatten().tolist()) for i in looked.images}
    assert not any(tuple(i.flatten().tolist()) in original for i in adversarial.images)


def test_an_attack_that_never_succeeds_changes_nothing():
    result = repair(trained(), images(60), AdversarialTuning(attack=FGSM(eps=0.0), grid=GRID))
    assert result.status is Status.UNCHANGED
    assert models.fingerprint(result.model) == models.fingerprint(trained())
    assert result.trace["adversarial"] == 0


def test_the_gradient_is_that_of_the_mean_cross_entropy():
    batch = images(8)
    model = copy.deepcopy(trained())
    fit = CrossEntropyFit(batch, batch, 8)
    (found,) = list(fit.steps(model, Stream(0), 8))
    model.zero_grad()
    cross_entropy(model(batch.images), batch.labels).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)


def linear() -> nn.Module:
    """Logits ``(3x, -3x)`` of one pixel: its worst case is known."""
    made = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).eval()
    with torch.no_grad():
        made[1].weight.copy_(torch.tensor([[3.0], [-3.0]]))
        made[1].bias.zero_()
    return made


def test_pgd_training_finds_the_worst_pixel():
    method = PGDTraining(eps=0.2, steps=5)
    pixels, labels = torch.tensor([0.5, 0.1]).view(2, 1, 1, 1), torch.tensor([0, 1])
    noise = torch.zeros(2, 1, 1, 1)
    model = linear()
    loss = method.batch_loss(model, pixels, labels, noise)
    # Class 0 wants a large pixel: the worst is 0.3. Class 1 wants a small one: the worst is 0.3.
    worst = torch.tensor([0.3, 0.3]).view(2, 1, 1, 1)
    torch.testing.assert_close(loss, cross_entropy(model(worst), labels))
    assert model.training


def test_trades_by_its_formula():
    method = TRADES(beta=2.0, eps=0.2, steps=5, step_size=0.1)
    pixels, labels = torch.tensor([0.5]).view(1, 1, 1, 1), torch.tensor([0])
    model = linear()
    loss = method.batch_loss(model, pixels, labels, torch.full((1, 1, 1, 1), -1e-3))
    # KL grows with the distance: the search that starts below ends at 0.3.
    clean = torch.softmax(model(pixels), 1)[0]
    other = torch.softmax(model(torch.tensor([0.3]).view(1, 1, 1, 1)), 1)[0]
    divergence = (clean * (clean / other).log()).sum()
    expected = -clean[0].log() + 2.0 * divergence
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", [PGDTraining(eps=0.15, steps=4),
                                    TRADES(eps=0.15, steps=4, step_size=0.05)],
                         ids=lambda m: type(m).__name__)  # fmt: skip
def test_inner_images_stay_in_the_ball(method):
    batch, seen = images(20), []
    noise = method.noise(tuple(batch.images.shape), torch.Generator().manual_seed(1))
    assert float(noise.abs().max()) <= (0.15 if isinstance(method, PGDTraining) else 0.01)
    model = copy.deepcopy(trained())
    model.register_forward_pre_hook(lambda m, args: seen.append(args[0].detach()))
    method.batch_loss(model, batch.images, batch.labels, noise)
    for tried in seen:
        assert float((tried - batch.images).abs().max()) <= 0.15 + 1e-6
        assert float(tried.min()) >= 0.0 and float(tried.max()) <= 1.0
    assert any(float((tried - batch.images).abs().max()) > 0.1 for tried in seen)


@pytest.mark.parametrize(
    "method",
    [
        PGDTraining(eps=0.1, steps=3, judged=40, held_out=0.25),
        TRADES(eps=0.1, steps=3, judged=40, held_out=0.25),
    ],
    ids=lambda m: type(m).__name__,
)
def test_online_training_is_judged_on_the_model_itself(method):
    grid = Grid(rates=(1e-3,), optimisers=("adam",), epochs=2)
    way = type(method)(**{**vars(method), "grid": grid})
    result = repair(trained(), images(160), way, generator=2)
    again = repair(trained(), images(160), way, generator=2)
    assert result.status in (Status.TUNED, Status.UNCHANGED)
    assert models.fingerprint(result.model) == models.fingerprint(again.model)


def test_the_authors_settings():
    cifar = TRADES.cifar10()
    assert (cifar.beta, cifar.eps, cifar.steps, cifar.step_size) == (6.0, 0.031, 10, 0.007)
    mnist = TRADES.mnist()
    assert (mnist.beta, mnist.eps, mnist.steps, mnist.step_size) == (1.0, 0.3, 40, 0.01)


def test_all_hold_out_the_same_images():
    """Under one seed DARE and the baselines divide the images alike: they share a budget."""
    looked, held = halves(images(), 0.25, Stream(5).child("held out"))
    batches = []
    original = AdversarialTuning.fit

    def spy(self, model, a, b, context):
        batches.append((a, b))
        return original(self, model, a, b, context)

    AdversarialTuning.fit = spy
    try:
        repair(trained(), images(), AdversarialTuning(attack=FGSM(eps=0.1), grid=GRID),
               generator=Stream(5))  # fmt: skip
    finally:
        AdversarialTuning.fit = original
    assert torch.equal(batches[0][0].images, looked.images)
    assert torch.equal(batches[0][1].images, held.images)
    ours = DARE(history="none", grid=GRID)
    assert ours.held_out == AdversarialTuning().held_out and ours.grid == GRID


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [(AdversarialTuning, {"clean": -1.0}), (AdversarialTuning, {"held_out": 0.0}),
     (AdversarialTuning, {"samples": 1}), (PGDTraining, {"eps": 0.0}), (PGDTraining, {"steps": 0}),
     (PGDTraining, {"step_size": 0.0}), (PGDTraining, {"judged": 0}), (TRADES, {"beta": -1.0})],
)  # fmt: skip
def test_senseless_arguments_are_refused(kind, wrong):
    with pytest.raises(ArgumentError):
        kind(**wrong)
