"""What every attack must do, whatever it is: a suite for pytest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from suture.attacks import Attack, AttackResult
from suture.attacks.geometry import distance
from suture.errors import ArgumentError, DataError, ModelError
from suture.testing.exact import ExactLinear, ExactRandom, classified_batch
from suture.testing.names import names_of
from suture.types import Batch

SHAPE = (3, 7, 6)
"""Of the images that the attacks get."""


def same(one: AttackResult, other: AttackResult, rows: torch.Tensor | slice = slice(None)) -> None:
    for field in dataclasses.fields(AttackResult):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, torch.Tensor):
            assert torch.equal(left[rows], right), field.name


class AttackContract:
    """The contract of attacks; name a subclass ``Test...`` and give it ``attacks``.

    Attributes:
        attacks: instances, small enough to run dozens of times; each meets every test.
    """

    attacks: ClassVar[Sequence[Attack]] = ()

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Every test with each attack."""
        if "attack" in metafunc.fixturenames:
            metafunc.parametrize("attack", self.attacks, ids=repr)

    @pytest.fixture
    def model(self) -> ExactLinear:
        return ExactLinear(SHAPE)

    @pytest.fixture
    def batch(self, model: ExactLinear) -> Batch:
        made = classified_batch(model, SHAPE, n=13, seed=1)
        model.forwards = 0
        return made

    def test_stays_in_the_ball_and_in_the_unit_box(
        self, attack: Attack, model: nn.Module, batch: Batch
    ) -> None:
        images = attack(model, batch, generator=0).images
        assert images.min() >= 0 and images.max() <= 1
        assert distance(attack.norm, images - batch.images).max() <= attack.eps + 1e-6

    def test_finds_something_and_measures_success_itself(
        self, attack: Attack, model: nn.Module, batch: Batch
    ) -> None:
        result = attack(model, batch, generator=0)
        decided = model(result.images).argmax(1)
        assert torch.equal(result.predictions, decided)
        assert torch.equal(result.success, decided != batch.labels)
        assert result.success[:-1].any(), "an attack that finds nothing here tests nothing"

    def test_counts_every_forward(self, attack: Attack, model: ExactLinear, batch: Batch) -> None:
        result = attack(model, batch, generator=0)
        assert model.forwards == int(result.queries.sum()) + result.checks * len(batch)
        for row in range(4):
            model.forwards = 0
            alone = attack(model, batch[row : row + 1], generator=0)
            assert model.forwards == int(alone.queries) + alone.checks
            assert not attack.independent or int(alone.queries) == int(result.queries[row])

    def test_an_image_does_not_depend_on_the_others(
        self, attack: Attack, model: nn.Module, batch: Batch
    ) -> None:
        whole = attack(model, batch, generator=3)
        for size in (1, 4, 5):
            same(whole, attack(model, batch, generator=3, batch_size=size))
        order = torch.tensor([5, 0, 12, 7, 3])
        same(whole, attack(model, batch[order], generator=3), order)

    def test_a_randomised_model_is_met_the_same_way_in_any_batch(self, attack: Attack) -> None:
        model = ExactRandom(SHAPE)
        batch = classified_batch(model, SHAPE, n=9, seed=2)
        whole = attack(model, batch, generator=3)
        same(whole, attack(model, batch, generator=3, batch_size=2))
        order = torch.tensor([8, 1, 4])
        same(whole, attack(model, batch[order], generator=3), order)

    def test_the_seed_decides(self, attack: Attack, model: nn.Module, batch: Batch) -> None:
        same(attack(model, batch, generator=5), attack(model, batch, generator=5))
        generator = torch.Generator().manual_seed(11)
        first, second = (attack(model, batch, generator=generator) for _ in range(2))
        starts_at_random = getattr(attack, "random_start", attack.draws)
        assert torch.equal(first.images, second.images) != starts_at_random

    def test_leaves_global_state_alone(
        self, attack: Attack, model: nn.Module, batch: Batch
    ) -> None:
        model.train()
        model.get_submodule("dropout").eval()
        before = torch.get_rng_state()
        modes = [module.training for module in model.modules()]
        images = batch.images.clone()
        attack(model, batch, generator=0)
        assert torch.equal(before, torch.get_rng_state())
        assert modes == [module.training for module in model.modules()]
        assert all(p.grad is None and p.requires_grad for p in model.parameters())
        assert torch.equal(images, batch.images)
        assert not batch.images.requires_grad

    def test_targeted(self, attack: Attack, model: nn.Module, batch: Batch) -> None:
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

    def test_an_image_that_is_wrong_already_is_not_attacked(
        self, attack: Attack, model: nn.Module, batch: Batch
    ) -> None:
        result = attack(model, batch, generator=0)
        assert not result.clean_right[-1] and not result.robust[-1]
        assert result.queries[-1] == 0
        assert torch.equal(result.images[-1], batch.images[-1])

    def test_a_zero_radius_changes_nothing(
        self, attack: Attack, model: nn.Module, batch: Batch
    ) -> None:
        result = dataclasses.replace(attack, eps=0.0)(model, batch, generator=0)
        assert torch.allclose(result.images, batch.images, atol=1e-7)
        assert torch.equal(result.robust, result.clean_right)

    def test_bad_arguments_are_refused(
        self, attack: Attack, model: nn.Module, batch: Batch
    ) -> None:
        refused: list[dict[str, Any]] = [{"eps": -0.1}, {"norm": "l7"}, {"eot": 0}]
        refused += [{"eps": float("nan")}, {"budget": 0}, {"seconds": 0.0}, {"eot_of": "odds"}]
        for wrong in refused:
            with pytest.raises(ArgumentError):
                dataclasses.replace(attack, **wrong)
        refusal = "differ from the labels" if attack.can_target else "untargeted attack"
        with pytest.raises(ArgumentError, match=refusal):
            attack(model, batch, targets=batch.labels.clone())
        with pytest.raises(DataError, match="labels from 0 to 3"):
            attack(model, Batch(batch.images, batch.labels + 9))

    def test_unusable_models_are_refused(self, attack: Attack, batch: Batch) -> None:
        class Broken(nn.Module):
            def forward(self, images):  # type: ignore[no-untyped-def]
                return torch.full((len(images), 4), float("nan"))

        with pytest.raises(ModelError, match="finite logits"):
            attack(Broken(), batch)
        with pytest.raises(ModelError, match="logits of shape"):
            attack(nn.Identity(), batch)

    def test_a_spent_budget_stops_the_image(
        self, attack: Attack, model: ExactLinear, batch: Batch
    ) -> None:
        budget = 2 * attack.eot + 1
        limited = dataclasses.replace(attack, budget=budget)
        result = limited(model, batch, generator=0)
        assert model.forwards == int(result.queries.sum()) + result.checks * len(batch)
        assert int(result.queries.max()) <= budget
        if attack.independent:
            same(result, limited(model, batch, generator=0, batch_size=3))

    def test_transfer_attacks_one_model_and_measures_another(
        self, attack: Attack, model: ExactLinear, batch: Batch
    ) -> None:
        other = ExactLinear(SHAPE, seed=5)
        result = attack(model, batch, generator=0, transfer_from=other)
        assert torch.equal(result.predictions, model(result.images).argmax(1))
        other.forwards = model.forwards = 0
        again = attack(model, batch, generator=0, transfer_from=other)
        same(result, again)
        assert model.forwards == result.checks * len(batch)
        assert other.forwards == int(result.queries.sum()) + len(batch)

    def test_the_repr_is_the_attack(self, attack: Attack) -> None:
        assert eval(repr(attack), names_of(attack)) == attack

    def test_a_budget_ends_between_queries_and_not_between_their_draws(
        self, attack: Attack
    ) -> None:
        if attack.eot == 1:
            return
        model = ExactRandom(SHAPE)
        batch = classified_batch(model, SHAPE, n=13, seed=1)
        limited = dataclasses.replace(attack, budget=2 * attack.eot + 1)
        queries = limited(model, batch, generator=0).queries
        assert int(queries.max()) == 2 * attack.eot
        assert torch.equal(queries % attack.eot, torch.zeros_like(queries))

    def test_it_promises_independence(self, attack: Attack) -> None:
        assert attack.independent
