"""The parts of adversarial training, by hand: rates, the average, steps, perturbed weights."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from suture.errors import ArgumentError, ModelError
from suture.repairs import NFGSM, TRADES, PGDTraining
from suture.repairs.adversarial_training.averaging import Average, decay_after
from suture.repairs.adversarial_training.inner import ascend, held_fixed
from suture.repairs.adversarial_training.perturbation import perturbed
from suture.repairs.adversarial_training.planning import fitting
from suture.repairs.adversarial_training.progress import Epoch, Standing
from suture.repairs.adversarial_training.rates import rate
from suture.repairs.adversarial_training.suffix import part_of
from suture.testing.small import digits, trained


@pytest.mark.parametrize(
    ("course", "done", "expected"),
    [("one-cycle", 0.0, 0.04), ("one-cycle", 0.15, 0.52), ("one-cycle", 0.3, 1.0),
     ("one-cycle", 0.65, 0.5), ("one-cycle", 1.0, 0.0),
     ("cosine", 0.0, 1.0), ("cosine", 1 / 3, 0.75), ("cosine", 0.5, 0.5),
     ("step", 0.49, 1.0), ("step", 0.5, 0.1), ("step", 0.74, 0.1), ("step", 0.75, 0.01),
     ("constant", 0.9, 1.0)],
)  # fmt: skip
def test_rates_by_hand(course, done, expected):
    assert rate(course, 0.2, done) == pytest.approx(0.2 * expected, abs=1e-12)


def test_the_decay_grows_to_its_value():
    assert [decay_after(t, 0.5) for t in (0, 1, 8, 9)] == [0.1, 2 / 11, 0.5, 0.5]
    assert decay_after(10**6, 0.995) == 0.995
    assert decay_after(0, 0.0) == 0.0


def test_the_average_by_hand():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1)).train()
    weight = model[0].weight
    with torch.no_grad():
        weight.fill_(1.0)
    average = Average(model, 0.15)
    values = []
    for value in (2.0, 4.0, 4.0):
        with torch.no_grad():
            weight.fill_(value)
            model[1].num_batches_tracked += 1
        average.update()
        values.append(float(average.state["0.weight"]))
    first = 0.1 * 1 + 0.9 * 2
    second = 0.15 * first + 0.85 * 4
    assert values == pytest.approx([first, second, 0.15 * second + 0.85 * 4])
    assert int(average.state["1.num_batches_tracked"]) == 3, "counters are copied"
    again = Average(model, 0.15)
    again.restore(average.state, average.steps)
    average.update()
    again.update()
    assert torch.equal(again.state["0.weight"], average.state["0.weight"])


def linear() -> nn.Module:
    """Logits ``(3x, -3x)`` of one pixel."""
    made = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).eval()
    with torch.no_grad():
        made[1].weight.copy_(torch.tensor([[3.0], [-3.0]]))
        made[1].bias.zero_()
    return made


def pixels(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_the_ascent_by_hand():
    """Class 0 wants a large pixel: the loss rises downwards, to the ball or to 0."""
    images, labels, model = pixels(0.5, 0.1, 0.5), torch.tensor([0, 0, 1]), linear()
    found = ascend(images, pixels(0.0, 0.0, 0.0), lambda x: cross_entropy(model(x), labels),
                   eps=0.2, step=0.15, steps=1)  # fmt: skip
    torch.testing.assert_close(found, pixels(0.35, 0.0, 0.65))
    found = ascend(images, pixels(0.0, 0.0, 0.0), lambda x: cross_entropy(model(x), labels),
                   eps=0.2, step=0.15, steps=2)  # fmt: skip
    torch.testing.assert_close(found, pixels(0.3, 0.0, 0.7))
    assert not found.requires_grad
    torch.testing.assert_close(images, pixels(0.5, 0.1, 0.5))


def test_weights_are_held_fixed_only_meanwhile():
    model = linear()
    parameters = list(model.parameters())
    with held_fixed(parameters):
        assert not any(p.requires_grad for p in parameters)
    assert all(p.requires_grad for p in parameters)


def test_the_noise_of_n_fgsm():
    method = NFGSM(eps=0.1, k=2.0)
    noise = method.noise((50, 1, 20, 20), torch.Generator().manual_seed(0))
    assert 0.199 < float(noise.max()) <= 0.2 and -0.2 <= float(noise.min()) < -0.199
    assert abs(float(noise.mean())) < 0.002
    assert abs(float(noise.std()) - 0.4 / math.sqrt(12)) < 0.002, "uniform"


def test_the_step_of_n_fgsm_leaves_the_ball():
    """``x + η + α·sign``, not clipped: 0.5 - 0.2 - 0.1, 0.1 + 0.15 - 0.1, and 0.9 + 0.15 + 0.1."""
    method, model = NFGSM(eps=0.1), linear()
    images, labels = pixels(0.5, 0.1, 0.9), torch.tensor([0, 0, 1])
    noise = pixels(-0.2, 0.15, 0.15)
    found = method.attacked(model, images, labels, noise, list(model.parameters()))
    torch.testing.assert_close(found, pixels(0.2, 0.15, 1.15))
    assert all(p.requires_grad for p in model.parameters())


def test_perturbed_weights_against_autograd_by_hand():
    model, batch = copy.deepcopy(trained()), digits().train.batch(16)
    parameters = list(model.parameters())
    before = [p.detach().clone() for p in parameters]
    loss = cross_entropy(model(batch.images), batch.labels)
    gradients = torch.autograd.grad(loss, parameters)
    gamma, inside = 0.02, []
    with perturbed(parameters, gradients, gamma):
        inside = [p.detach().clone() for p in parameters]
        uphill = cross_entropy(model(batch.images), batch.labels)
    for old, new, gradient in zip(before, inside, gradients, strict=True):
        if old.ndim == 1:
            assert torch.equal(old, new), "biases stay"
            continue
        length = gradient.square().sum().sqrt()
        torch.testing.assert_close(new, old + gamma * old.square().sum().sqrt() / length * gradient)
        assert float((new - old).norm()) == pytest.approx(gamma * float(old.norm()), rel=1e-3)
    assert float(uphill.detach()) > float(loss.detach())
    assert all(torch.equal(old, p) for old, p in zip(before, parameters, strict=True))


def test_the_last_layers_in_the_order_of_the_forward():
    class Backwards(nn.Module):
        """Its parts are named in another order than they are called."""

        def __init__(self):
            super().__init__()
            self.last, self.norm, self.first = nn.Linear(4, 3), nn.BatchNorm1d(4), nn.Linear(4, 4)

        def forward(self, x):
            return self.last(self.norm(self.first(x.flatten(1))))

    model, images = Backwards().eval(), torch.rand(2, 1, 2, 2)
    one = part_of(model, 1, images)
    assert {id(p) for p in one.parameters} == {id(p) for p in model.last.parameters()}
    assert one.layers == (1, 2) and model.norm in one.frozen
    one.learns()
    assert model.last.training and not model.norm.training and not model.first.training
    assert not model.norm.weight.requires_grad
    assert len(part_of(model, 2, images).parameters) == len(list(model.parameters()))
    assert part_of(model, "all", images).frozen == ()
    with pytest.raises(ArgumentError, match="1 to 2"):
        part_of(model, 3, images)
    with pytest.raises(ModelError, match="parameters to train"):
        part_of(nn.Flatten(), "all", images)


def test_how_many_epochs_fit():
    assert fitting(100.0, 8.0, 2.0, judged=5) == 11  # 11 · 8 + 5 · 2 = 98
    assert fitting(35.0, 8.0, 2.0, judged=5) == 3  # each of them judged
    assert fitting(1.0, 8.0, 2.0, judged=5) == 1


def test_only_epochs_within_the_limit_are_kept():
    progress, floor = Standing(), 0.9
    for epoch, clean, robust in ((1, 0.95, 0.3), (2, 0.89, 0.9), (3, 0.9, 0.4), (4, 1.0, 0.4)):
        row = Epoch(epoch, 0.0, 0.0, clean, robust, None, 0.0)
        progress.epochs.append(row)
        progress.offer(row, {"w": torch.tensor(float(epoch))}, floor)
    assert progress.best_epoch == 3, "the first of equals, and never one beyond the limit"
    assert float(progress.best["w"]) == 3.0
    assert Standing.of(progress.plain()) == progress


def test_the_step_by_default():
    assert PGDTraining(eps=0.1).step == pytest.approx(0.05)
    assert PGDTraining(eps=0.1, steps=10).step == pytest.approx(0.025)
    assert NFGSM(eps=0.1).step == pytest.approx(0.1)
    assert TRADES(eps=0.1, step_size=0.01).step == 0.01


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [(PGDTraining, {"eps": 0.0}), (PGDTraining, {"epochs": 0}), (PGDTraining, {"minutes": 0.0}),
     (PGDTraining, {"layers": 0}), (PGDTraining, {"optimiser": "lbfgs"}), (PGDTraining, {"lr": 0}),
     (PGDTraining, {"schedule": "cyclic"}), (PGDTraining, {"step_images": 1}),
     (PGDTraining, {"average": 1.0}), (PGDTraining, {"label_smoothing": 1.0}),
     (PGDTraining, {"augment": "flip"}), (PGDTraining, {"clip": -1.0}), (TRADES, {"awp": -0.1}),
     (PGDTraining, {"reach": 0.0}), (PGDTraining, {"warm_up": 1.1}),
     (TRADES, {"held_out": 0.0}), (TRADES, {"limit": -1.0}), (TRADES, {"samples": 3}),
     (NFGSM, {"steps": 2}), (NFGSM, {"k": -1.0}), (NFGSM, {"judged_epochs": 0})],
)  # fmt: skip
def test_senseless_settings_are_refused(kind, wrong):
    with pytest.raises(ArgumentError):
        kind(**wrong)
