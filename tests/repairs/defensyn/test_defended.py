"""The defended classifier: its draws, its fixed programs, its averages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from suture.attacks import PGD, Square
from suture.errors import ArgumentError, ProgramError
from suture.repairs.defensyn import DefendedClassifier, DefEnSyn, parse
from suture.rng import integers
from suture.types import Batch

PROGRAMS = tuple(parse(text) for text in ("v0 = 10", "v1 = 10", "v2 = 10; v0 = -10"))


@pytest.fixture
def model() -> DefendedClassifier:
    """Features are the three pixels; the head passes them on: program i makes class i win."""
    head = nn.Linear(3, 3)
    with torch.no_grad():
        head.weight.copy_(torch.eye(3))
        head.bias.zero_()
    return DefendedClassifier(nn.Flatten(), head, PROGRAMS, features=3).eval()


IMAGES = torch.rand(60, 1, 1, 3, generator=torch.Generator().manual_seed(0))


def test_every_input_draws_its_own_program(model: DefendedClassifier):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classes = model(IMAGES).argmax(1)
        again = model(IMAGES).argmax(1)
    assert (classes.bincount(minlength=3) > 10).all()
    assert not torch.equal(classes, again), "in eval mode too"


def test_noise_decides(model: DefendedClassifier):
    noise = torch.arange(60) * 71_000_003
    assert torch.equal(model(IMAGES, noise=noise).argmax(1), integers(noise, 3))


def test_a_seed_makes_it_repeatable(model: DefendedClassifier):
    def draw() -> list[torch.Tensor]:
        model.seed(5)
        return [model(IMAGES).argmax(1) for _ in range(2)]

    first, again = draw(), draw()
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1]), "a sequence, not one draw"
    model.seed(6)
    assert not torch.equal(model(IMAGES).argmax(1), first[0])
    before = torch.get_rng_state()
    model(IMAGES)
    assert torch.equal(before, torch.get_rng_state())


def test_fixed_and_undefended(model: DefendedClassifier):
    for index in range(3):
        alone = model.fixed(index)
        assert not alone.randomised
        assert (alone(IMAGES).argmax(1) == index).all()
    assert model.randomised
    assert torch.allclose(model.undefended()(IMAGES), IMAGES.flatten(1))


def test_average_is_the_mean_over_draws(model: DefendedClassifier):
    noise = torch.randint(0, 2**62, (700, 60), generator=torch.Generator().manual_seed(1))
    average = model.average(IMAGES, noise)
    one_by_one = sum(model(IMAGES, noise=row) for row in noise) / 700
    assert torch.allclose(average, one_by_one, atol=1e-4)
    everything = sum(model.fixed(index)(IMAGES) for index in range(3)) / 3
    assert (average - everything).abs().max() < 1.5


@pytest.mark.parametrize("linear", [True, False])
def test_each_programs_logits_at_once(linear: bool):
    generator = torch.Generator().manual_seed(3)
    head = nn.Linear(3, 4) if linear else nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4))
    texts = ("v0 = v1 * v2; v1 = v0 - 3", "v2 = v0 / v1; v2 = max(v2, 0.2)", "v1 = 4")
    model = DefendedClassifier(nn.Flatten(), head, tuple(map(parse, texts)), 3)
    images = torch.rand(20, 1, 1, 3, generator=generator)
    images[:5, ..., 1] = 0.0
    for index, logits in enumerate(model.each(images)):
        assert torch.allclose(logits, model.fixed(index)(images), atol=1e-5)


def test_gradients_reach_the_image(model: DefendedClassifier):
    images = IMAGES[:4].clone().requires_grad_(True)
    noise = torch.zeros(4, dtype=torch.int64)
    model(images, noise=noise).sum().backward()
    # Program 0 overwrites feature 0: no gradient there.
    assert images.grad.flatten(1).tolist() == [[0.0, 1.0, 1.0]] * 4


def test_attacks_meet_a_fresh_program_per_query(model: DefendedClassifier):
    batch = Batch(IMAGES, torch.full((60,), 1))
    result = Square(eps=0.01, queries=200)(model, batch, generator=0)
    # Two of three programs answer something else: the first query or two end the search.
    assert result.clean_right.float().mean() == pytest.approx(1 / 3, abs=0.2)
    assert result.queries[result.clean_right].float().mean() < 5
    # The final decision is one more draw: it is right about once in three.
    assert result.robust.sum() / result.clean_right.sum() < 0.8


def test_programs_must_fit(model: DefendedClassifier):
    with pytest.raises(ProgramError, match="got v3"):
        DefendedClassifier(nn.Flatten(), model.head, (parse("v3 = 1"),), features=3)


@pytest.mark.parametrize(
    "wrong",
    [{"samples": 0}, {"k": 0}, {"max_length": 0}, {"programs_per_length": 5, "k": 6},
     {"lambda_": -1.0}, {"constants": (1.0, 1.0)}, {"distribution": "x"}, {"temperature": 0.0}],
)  # fmt: skip
def test_bad_hyper_parameters(wrong: dict):
    with pytest.raises(ArgumentError):
        DefEnSyn(attack=PGD(), **wrong)
