"""A model in train mode is attacked, evaluated and repaired as in eval mode, and left so."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from suture.attacks import Attack, Square, knowing
from suture.evaluate import Plan, Subject, Tier, evaluate
from suture.evaluate.health import signs
from suture.repairs import CARE, Repair, repair
from suture.testing.attacks import same
from suture.testing.repairs import logits
from suture.testing.small import digits
from suture.types import Batch
from tests.contract.test_attacks import ATTACKS, every_attack
from tests.contract.test_repairs import every_repair


def network(shape: tuple[int, int, int], classes: int, hidden: int = 0) -> nn.Sequential:
    """With layers that answer otherwise in train mode, and statistics that a forward would move."""
    width = 6 * shape[1] * shape[2]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = nn.Sequential(
            nn.Conv2d(shape[0], 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            *([nn.Linear(width, hidden), nn.ReLU()] if hidden else []),
            nn.Linear(hidden or width, classes),
        )
        norm = made[1]
        assert isinstance(norm, nn.BatchNorm2d)
        norm.running_mean = torch.randn(6) * 0.3
        norm.running_var = torch.rand(6) + 0.5
    return made.eval()


def mixed(model: nn.Sequential) -> nn.Sequential:
    """A copy in train mode, but for one layer."""
    made = copy.deepcopy(model).train()
    made[2].eval()
    return made


@contextmanager
def unchanged(*models: nn.Module) -> Iterator[None]:
    """Weights, statistics, modes and gradients are afterwards what they were."""

    def state(model: nn.Module) -> tuple[dict[str, Tensor], list[bool]]:
        held = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        return held, [module.training for module in model.modules()]

    before = [state(model) for model in models]
    yield
    for model, (held, modes) in zip(models, before, strict=True):
        now, found = state(model)
        assert found == modes
        assert all(torch.equal(now[name], tensor) for name, tensor in held.items())
        assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.fixture
def model() -> nn.Sequential:
    return network((3, 7, 6), 4)


@pytest.fixture
def batch(model: nn.Sequential) -> Batch:
    images = torch.rand(6, 3, 7, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return Batch(images, model(images).argmax(1))


@every_attack
def test_attacks(attack: Attack, model: nn.Sequential, batch: Batch):
    training = mixed(model)
    with unchanged(training):
        same(attack(model, batch, generator=0), attack(training, batch, generator=0))


@pytest.mark.parametrize("attack", [ATTACKS[0], ATTACKS[3], ATTACKS[14], ATTACKS[43]], ids=repr)
@pytest.mark.parametrize("adaptive", [False, True])
def test_transfer_from_a_model_in_train_mode(
    attack: Attack, adaptive: bool, model: nn.Sequential, batch: Batch
):
    attack = knowing(attack, 2) if adaptive else attack
    training, source = mixed(model), mixed(network((3, 7, 6), 4))
    with torch.no_grad():
        for one in (source, model, training):
            one[0].weight[0] += 0.01 * (one is source)
    still = copy.deepcopy(source).eval()
    with unchanged(training, source):
        same(
            attack(model, batch, generator=0, transfer_from=still),
            attack(training, batch, generator=0, transfer_from=source),
        )


def test_evaluations(batch: Batch, model: nn.Sequential):
    plan = Plan(attack=Square(eps=0.05, queries=10), tier=Tier(steps=4, queries=10), radii=(1.0,))
    other = network((3, 7, 6), 4)
    with torch.no_grad():
        other[5].bias += 0.1
    found = []
    for put in (copy.deepcopy, mixed):
        subjects = [Subject("undefended", put(model), "m"), Subject("defended", put(other), "m")]
        with unchanged(*(subject.model for subject in subjects)):
            records = evaluate(subjects, batch, plan, data="random").records
        found.append([(r.row, r.right, r.queries, r.warnings) for r in records])
    assert found[0] == found[1]


def test_signs(batch: Batch, model: nn.Sequential):
    training = mixed(model)
    with unchanged(training):
        assert signs(training, batch) == signs(model, batch)


@cache
def tuned(hidden: int = 0) -> nn.Sequential:
    """The same architecture, fitted to some digits."""
    model, batch = network((1, 8, 8), 10, hidden), digits().train.batch(400)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(batch.images), batch.labels).backward()
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return model


@pytest.mark.slow
@every_repair
def test_repairs(method: Repair):
    images, data = digits().test.batch(30).images, digits().train.batch(200)
    given = tuned(hidden=16 if isinstance(method, CARE) else 0)  # CARE scales hidden neurons
    training, made = mixed(given), []
    for model in (given, training):
        with unchanged(model):
            made.append(repair(model, data, method, generator=3).model)
    assert made[1].training and not made[0].training
    assert torch.equal(*(logits(model.eval(), images) for model in made))
