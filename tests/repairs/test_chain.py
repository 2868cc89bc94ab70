"""Repairs one after another: settings, what is told, what an attacker follows, and refusals."""

from __future__ import annotations

import pytest
import torch

from suture import DefEnSyn, Square, WeightPatch
from suture.errors import ArgumentError, ModelError
from suture.evaluate import Role, Subject
from suture.evaluate.plan import through_of
from suture.repairs import NFGSM, Chain, PGDTraining, Repair
from suture.settings import made
from suture.testing.repairs import trained, training
from suture.types import stages_of, undefended_of

TRAINED = NFGSM(eps=0.1, epochs=3, held_out=0.15, judged=40, step_images=64)
PROGRAMS = DefEnSyn(
    attack=Square(eps=0.1, queries=20), samples=40, k=3, max_length=1, programs_per_length=300
)


@pytest.fixture(scope="module")
def both():
    method = Chain(methods=(TRAINED, PROGRAMS))
    return method(trained(), training(), generator=3)


def through(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    before = undefended_of(model)
    assert before is not None
    return through_of(Subject(Role.DEFENDED, model, ""), Subject(Role.UNDEFENDED, before, ""))


def test_the_attacker_follows_every_stage(both):
    images = training().images[:20]
    (inner,) = stages_of(both.model)
    found = through(both.model)
    with torch.no_grad():
        torch.testing.assert_close(undefended_of(both.model)(images), trained()(images))
        assert not torch.allclose(inner(images), trained()(images))
        assert torch.equal(found["inner 1"](images), inner(images))
    alone = PROGRAMS(trained(), training(), generator=3).model
    assert stages_of(alone) == [] and "inner 1" not in through(alone)


def test_every_stage_is_told(both):
    stages = both.trace["chain"]
    assert [stage["method"] for stage in stages] == ["n-fgsm", "defensyn"]
    assert stages[0]["trace"]["epochs"] == 3 and stages[0]["sentence"]
    assert list(both.artifacts) == ["1-programs"]


def test_one_link_is_the_method_itself():
    alone = Chain(methods=(WeightPatch(attack=PROGRAMS.attack, samples=30, keep=30),), eps=0.05)
    assert alone.parts[0].attack.eps == 0.05  # type: ignore[attr-defined]
    assert alone.threat["eps"] == 0.05 and alone.threat["attack"] == "square"


def test_settings_of_its_methods():
    given = {"methods": "pgd-training,defensyn", "eps": "8/255", "methods.1.k": "7"}
    given |= {"methods.pgd-training.epochs": "3"}
    chain = made(Chain, given, "chain")
    first, second = chain.parts
    assert isinstance(first, PGDTraining) and first.epochs == 3 and first.eps == 8 / 255
    assert isinstance(second, DefEnSyn) and second.k == 7 and second.attack.eps == 8 / 255


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "at least one"),
        ({"methods": "pgd-trainin"}, "did you mean pgd-training"),
        ({"methods": "trades", "methods.1.k": "7"}, r"one of 0, trades in methods\.1\.k"),
        ({"methods": "trades,trades", "methods.trades.beta": "7"}, "a name is understood"),
        ({"methods": "trades", "methods.0.betta": "7"}, "did you mean beta"),
        ({"methods": "trades", "eps": "-1"}, "eps > 0"),
    ],
)
def test_wrong_settings_are_refused(given, message):
    with pytest.raises(ArgumentError, match=message):
        made(Chain, given, "chain")


def test_what_does_not_compose_says_which_method_it_was():
    patch: Repair = WeightPatch(attack=PROGRAMS.attack, samples=30, keep=30)
    with pytest.raises(ModelError, match="That was method 1 of the chain, weight-patch"):
        Chain(methods=(PROGRAMS, patch))(trained(), training(), generator=3)
