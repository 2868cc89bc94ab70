"""An attacker who may try longer leaves no more: else his attack is broken, not the defence good.

Where the longer attack begins with the shorter one's candidates, no image may be held by a larger
share of draws. Elsewhere the total may differ by chance.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from suture import models
from suture.attacks import (
    APGD,
    PGD,
    SPSA,
    Attack,
    AutoAttack,
    Pixle,
    RandomNoise,
    SparseRS,
    Square,
)
from suture.evaluate.rows import share_right
from suture.repairs import A5Robustifier, AdversarialTuning, AdvRepair
from suture.repairs.defensyn import DefendedClassifier, parse
from suture.repairs.defensyn.random_programs import RandomPrograms
from suture.testing.repairs import repaired
from suture.testing.small import digits, trained
from suture.types import Batch, described, is_randomised
from tests.contract.test_repairs import REPAIRS

EPS = 0.08
ADAPTIVE: dict[str, Any] = {"adaptive": True, "eot": 4}
LINF = ADAPTIVE | {"eps": EPS}
Change = dict[str, Any]
NESTED: list[tuple[Attack, Change]] = [
    (PGD(steps=2, step_size=0.02, **LINF), {"steps": 8}),
    (PGD(steps=3, loss="spread", **LINF), {"restarts": 4}),
    (PGD(steps=3, step_size=0.02, loss="clipped", random_start=False, **LINF), {"steps": 9}),
    (APGD(steps=6, **LINF), {"restarts": 2}),
    (Square(queries=8, rescale_schedule=False, **LINF), {"queries": 40}),
    (SPSA(steps=2, samples=8, **LINF), {"steps": 5}),
    (Pixle(restarts=2, iterations=4, **ADAPTIVE), {"restarts": 5}),
    (RandomNoise(queries=3, **LINF), {"queries": 15}),
    (AutoAttack(steps=4, queries=8, classes=2, **LINF), {"queries": 24}),
]
LOOSE: list[tuple[Attack, Change]] = [
    (PGD(steps=3, **LINF), {"steps": 20}),
    (APGD(steps=5, loss="dlr", **LINF), {"steps": 20}),
    (Square(queries=8, **LINF), {"queries": 60}),
    (SPSA(steps=3, samples=4, **LINF), {"samples": 24}),
    (SparseRS(queries=8, eps=6, **ADAPTIVE), {"queries": 60}),
    (SparseRS(queries=30, eps=2, **ADAPTIVE), {"eps": 8}),
]
MODELS = ("programs", "random programs", "AdvRepair", "A5", "tuned")
every_model = pytest.mark.parametrize("name", MODELS)


def _named(pair: tuple[Attack, Change]) -> str:
    (field,) = pair[1]
    return f"{type(pair[0]).__name__}-{field}"


@cache
def model_of(name: str) -> nn.Module:
    parts = models.cut(trained())
    width = parts.features
    if name == "random programs":
        return RandomPrograms(parts.encoder, parts.head, width, constants=(-3.0, 3.0)).eval()
    if name == "programs":
        texts = [f"v{i % width} = v{(3 * i) % width} * {i % 4}.5" for i in range(1, 24, 3)]
        programs = tuple(parse(text) for text in texts)
        return DefendedClassifier(parts.encoder, parts.head, programs, width).eval()
    kind = {"AdvRepair": AdvRepair, "A5": A5Robustifier, "tuned": AdversarialTuning}[name]
    return repaired(next(method for method in REPAIRS if isinstance(method, kind))).model


def known(model: nn.Module) -> bool:
    """Whether everything that it can draw is known."""
    return not is_randomised(model) or bool(described(model).odds())


@cache
def held_out() -> Batch:
    return digits().test.batch(16)


def shares(attack: Attack, model: nn.Module) -> tuple[Tensor, Tensor]:
    """What the attack says is left of each image, and the images."""
    result = attack(model, held_out(), generator=5)
    return result.share, result.images


def left(model: nn.Module, images: Tensor) -> float:
    """Images right in expectation, counted over draws that no attack has seen."""
    return float(share_right(model, images, held_out().labels, draws=40).sum())


@pytest.mark.parametrize("pair", NESTED, ids=_named)
@every_model
def test_what_begins_alike_never_leaves_more(name: str, pair: tuple[Attack, Change]):
    attack, change = pair
    model = model_of(name)
    brief, before = shares(attack, model)
    longer, after = shares(dataclasses.replace(attack, **change), model)
    assert (longer <= brief).all(), (brief - longer).tolist()
    if known(model):
        for share, images in ((brief, before), (longer, after)):
            assert torch.allclose(share, share_right(model, images, held_out().labels))


@pytest.mark.parametrize("pair", LOOSE, ids=_named)
@every_model
def test_longer_attacks_leave_more_by_chance_alone(name: str, pair: tuple[Attack, Change]):
    attack, change = pair
    model = model_of(name)
    brief = left(model, shares(attack, model)[1])
    long = left(model, shares(dataclasses.replace(attack, **change), model)[1])
    assert long <= brief + chance(brief)


@pytest.mark.parametrize("attack", [NESTED[1][0], NESTED[4][0], NESTED[7][0]], ids=repr)
def test_more_draws_leave_more_by_chance_alone(attack: Attack):
    model = model_of("random programs")
    few = left(model, shares(dataclasses.replace(attack, eot=1), model)[1])
    many = left(model, shares(dataclasses.replace(attack, eot=24), model)[1])
    assert many <= few + chance(few)


def chance(count: float) -> float:
    """Three standard deviations of a binomial count, of the images at hand."""
    n = len(held_out())
    share = min(max(count / n, 1 / n), 1 - 1 / n)
    return 3 * (n * share * (1 - share)) ** 0.5
