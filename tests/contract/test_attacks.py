"""What every attack must do, whatever it is. New attacks are added to ``ATTACKS``."""

from __future__ import annotations

import dataclasses
from math import inf

import pytest
import torch
from torch import nn

from suture.attacks import (
    AIGENT,
    APGD,
    BIM,
    CW,
    FAB,
    FGSM,
    JSMA,
    PGD,
    SPSA,
    Attack,
    AttackResult,
    AutoAttack,
    Backdoor,
    DeepFool,
    HopSkipJump,
    OnePixel,
    Pixle,
    RandomNoise,
    SparseRS,
    Square,
)
from suture.attacks.geometry import distance
from suture.errors import ArgumentError, DataError, ModelError
from suture.types import Batch
from tests.exact import ExactLinear, ExactRandom, classified_batch

SHAPE = (3, 7, 6)
ATTACKS: list[Attack] = [
    PGD(norm="linf", eps=0.05, steps=7),
    PGD(norm="l2", eps=0.5, steps=7, restarts=2),
    PGD(norm="linf", eps=0.05, steps=5, random_start=False, eot=3),
    Square(norm="linf", eps=0.05, queries=40),
    Square(norm="l2", eps=0.5, queries=40),
    Square(norm="linf", eps=0.05, queries=40, eot=3, early_stop=False),
    FGSM(norm="linf", eps=0.05),
    FGSM(norm="l2", eps=0.5),
    BIM(norm="linf", eps=0.05),
    PGD(norm="l1", eps=3.0, steps=7, sparsity=0.9),
    CW(steps=12, binary_search_steps=3, initial_const=1.0, learning_rate=0.05),
    CW(steps=12, binary_search_steps=2, initial_const=1.0, eps=0.5),
    DeepFool(norm="l2"),
    DeepFool(norm="linf", eps=0.05),
    APGD(norm="linf", eps=0.05, steps=12),
    APGD(norm="l2", eps=0.5, steps=12, loss="dlr", restarts=2),
    APGD(norm="linf", eps=0.03, steps=12, loss="dlr-targeted", eot=2, eot_of="losses"),
    JSMA(),
    JSMA(eps=12, theta=-0.5, gamma=0.5),
    SPSA(norm="linf", eps=0.05, steps=4, samples=6),
    SPSA(norm="l2", eps=0.5, steps=4, samples=6),
    OnePixel(eps=2, population=8, generations=4),
    Pixle(restarts=3, iterations=4, x_dimensions=(1, 3), y_dimensions=(2, 3)),
    Pixle(eps=6, restarts=6, x_dimensions=(1, 3), update_each_iteration=True),
    SparseRS(eps=4, queries=40),
    SparseRS(eps=9, queries=40, shape="patch"),
    SparseRS(eps=24, queries=40, shape="frame", eot=2),
    HopSkipJump(norm="l2", steps=3, probes=8, eps=1.0),
    HopSkipJump(norm="linf", steps=3, probes=8),
    Backdoor(patch=((1.0,) * 6,) * 7),
    Backdoor(patch=((0.0, 1.0), (1.0, 0.0)), place=(1, 2), blend=0.9),
    RandomNoise(norm="linf", eps=0.1),
    RandomNoise(norm="l2", eps=1.0, queries=5),
    AIGENT(),
    AIGENT(eps=9, channels="apart", max_change=0.5, classes=3),
    AIGENT(eps=3, method="milp", patches=False, polish=0, candidates=0),
    FAB(norm="linf", eps=0.05, steps=8),
    FAB(norm="l2", steps=6),
    FAB(norm="l1", eps=3.0, steps=6, by_class=True, eot=2),
    FAB(norm="linf", eps=0.03, steps=6, by_class=True, classes=2),
    APGD(norm="l1", eps=3.0, steps=12),
    APGD(norm="l1", eps=2.0, steps=12, loss="dlr-targeted", decreasing=False, restarts=2),
    Square(norm="l1", eps=3.0, queries=40),
    AutoAttack(norm="linf", eps=0.03, steps=8, queries=40),
    AutoAttack(norm="l2", eps=0.3, steps=8, queries=40, version="plus"),
    AutoAttack(norm="l1", eps=2.0, steps=8, queries=40),
    AutoAttack(norm="linf", eps=0.03, steps=5, version="rand", eot=3),
]
every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=repr)


@pytest.fixture
def model() -> ExactLinear:
    return ExactLinear(SHAPE)


@pytest.fixture
def batch(model: ExactLinear) -> Batch:
    made = classified_batch(model, SHAPE, n=13, seed=1)
    model.forwards = 0
    return made


def same(one: AttackResult, other: AttackResult, rows: torch.Tensor | slice = slice(None)) -> None:
    for field in dataclasses.fields(AttackResult):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, torch.Tensor):
            assert torch.equal(left[rows], right), field.name


@every_attack
def test_stays_in_the_ball_and_in_the_unit_box(attack: Attack, model: nn.Module, batch: Batch):
    images = attack(model, batch, generator=0).images
    assert images.min() >= 0 and images.max() <= 1
    assert distance(attack.norm, images - batch.images).max() <= attack.eps + 1e-6


@every_attack
def test_finds_something_and_measures_success_itself(
    attack: Attack, model: nn.Module, batch: Batch
):
    result = attack(model, batch, generator=0)
    decided = model(result.images).argmax(1)
    assert torch.equal(result.predictions, decided)
    assert torch.equal(result.success, decided != batch.labels)
    assert result.success[:-1].any(), "an attack that finds nothing here tests nothing"


@every_attack
def test_counts_every_forward(attack: Attack, model: ExactLinear, batch: Batch):
    result = attack(model, batch, generator=0)
    assert model.forwards == int(result.queries.sum()) + result.checks * len(batch)
    for row in range(4):
        model.forwards = 0
        alone = attack(model, batch[row : row + 1], generator=0)
        assert model.forwards == int(alone.queries) + alone.checks
        assert not attack.independent or int(alone.queries) == int(result.queries[row])


@every_attack
def test_an_image_does_not_depend_on_the_others(attack: Attack, model: nn.Module, batch: Batch):
    whole = attack(model, batch, generator=3)
    for size in (1, 4, 5):
        same(whole, attack(model, batch, generator=3, batch_size=size))
    order = torch.tensor([5, 0, 12, 7, 3])
    same(whole, attack(model, batch[order], generator=3), order)


@every_attack
def test_a_randomised_model_is_met_the_same_way_in_any_batch(attack: Attack):
    model = ExactRandom(SHAPE)
    batch = classified_batch(model, SHAPE, n=9, seed=2)
    whole = attack(model, batch, generator=3)
    same(whole, attack(model, batch, generator=3, batch_size=2))
    order = torch.tensor([8, 1, 4])
    same(whole, attack(model, batch[order], generator=3), order)


@every_attack
def test_the_seed_decides(attack: Attack, model: nn.Module, batch: Batch):
    same(attack(model, batch, generator=5), attack(model, batch, generator=5))
    generator = torch.Generator().manual_seed(11)
    first, second = (attack(model, batch, generator=generator) for _ in range(2))
    starts_at_random = getattr(attack, "random_start", attack.draws)
    assert torch.equal(first.images, second.images) != starts_at_random


@every_attack
def test_leaves_global_state_alone(attack: Attack, model: nn.Module, batch: Batch):
    model.train()
    model.dropout.eval()
    before = torch.get_rng_state()
    modes = [module.training for module in model.modules()]
    images = batch.images.clone()
    attack(model, batch, generator=0)
    assert torch.equal(before, torch.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(images, batch.images)
    assert not batch.images.requires_grad


@every_attack
def test_targeted(attack: Attack, model: nn.Module, batch: Batch):
    logits = model(batch.images).detach()
    runner_up = logits.topk(2).indices[:, 1]
    targets = torch.where(runner_up == batch.labels, (runner_up + 1) % 4, runner_up)
    if not attack.can_target:
        with pytest.raises(ArgumentError, match="untargeted attack"):
            attack(model, batch, targets=targets)
        return
    result = attack(model, batch, generator=0, targets=targets)
    assert torch.equal(result.success, result.predictions == targets)
    assert result.success.any()


@every_attack
def test_an_image_that_is_wrong_already_is_not_attacked(
    attack: Attack, model: nn.Module, batch: Batch
):
    result = attack(model, batch, generator=0)
    assert not result.clean_right[-1] and not result.robust[-1]
    assert result.queries[-1] == 0
    assert torch.equal(result.images[-1], batch.images[-1])


@every_attack
def test_a_zero_radius_changes_nothing(attack: Attack, model: nn.Module, batch: Batch):
    result = dataclasses.replace(attack, eps=0.0)(model, batch, generator=0)
    assert torch.allclose(result.images, batch.images, atol=1e-7)
    assert torch.equal(result.robust, result.clean_right)


@every_attack
def test_bad_arguments_are_refused(attack: Attack, model: nn.Module, batch: Batch):
    refused = ({"eps": -0.1}, {"norm": "l7"}, {"eot": 0}, {"eps": float("nan")})
    refused += ({"budget": 0}, {"seconds": 0.0}, {"eot_of": "probabilities"})
    for wrong in refused:
        with pytest.raises(ArgumentError):
            dataclasses.replace(attack, **wrong)
    refusal = "differ from the labels" if attack.can_target else "untargeted attack"
    with pytest.raises(ArgumentError, match=refusal):
        attack(model, batch, targets=batch.labels.clone())
    with pytest.raises(DataError, match="labels from 0 to 3"):
        attack(model, Batch(batch.images, batch.labels + 9))


@every_attack
def test_unusable_models_are_refused(attack: Attack, batch: Batch):
    class Broken(nn.Module):
        def forward(self, images):  # type: ignore[no-untyped-def]
            return torch.full((len(images), 4), float("nan"))

    with pytest.raises(ModelError, match="finite logits"):
        attack(Broken(), batch)
    with pytest.raises(ModelError, match="logits of shape"):
        attack(nn.Identity(), batch)


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.eot > 1], ids=repr)
def test_a_budget_ends_between_queries_and_not_between_their_draws(attack: Attack):
    model = ExactRandom(SHAPE)
    batch = classified_batch(model, SHAPE, n=13, seed=1)
    limited = dataclasses.replace(attack, budget=2 * attack.eot + 1)
    queries = limited(model, batch, generator=0).queries
    assert int(queries.max()) == 2 * attack.eot
    assert torch.equal(queries % attack.eot, torch.zeros_like(queries))


@every_attack
def test_a_spent_budget_stops_the_image(attack: Attack, model: ExactLinear, batch: Batch):
    budget = 2 * attack.eot + 1
    limited = dataclasses.replace(attack, budget=budget)
    result = limited(model, batch, generator=0)
    assert model.forwards == int(result.queries.sum()) + result.checks * len(batch)
    assert int(result.queries.max()) <= budget
    if attack.independent:
        same(result, limited(model, batch, generator=0, batch_size=3))


@every_attack
def test_transfer_attacks_one_model_and_measures_another(
    attack: Attack, model: ExactLinear, batch: Batch
):
    other = ExactLinear(SHAPE, seed=5)
    result = attack(model, batch, generator=0, transfer_from=other)
    assert torch.equal(result.predictions, model(result.images).argmax(1))
    other.forwards = model.forwards = 0
    again = attack(model, batch, generator=0, transfer_from=other)
    same(result, again)
    assert model.forwards == result.checks * len(batch)
    assert other.forwards == int(result.queries.sum()) + len(batch)


def test_every_attack_promises_independence():
    assert all(attack.independent for attack in ATTACKS)


@every_attack
def test_the_repr_is_the_attack(attack: Attack):
    assert eval(repr(attack), {**globals(), "inf": inf}) == attack
