"""What is left of a model: the figures of ``evaluate``'s adaptive protocol, and who got them."""

from __future__ import annotations

import pytest
import torch

from suture.attacks import Square
from suture.evaluate import Kind, Plan, Role, Subject, evaluate, tier_of
from suture.evaluate.left import TRIED_AGAIN, what_is_left
from suture.repairs.defensyn import DefendedClassifier, parse
from suture.repairs.defensyn.random_programs import RandomPrograms
from suture.testing.exact import ExactLinear, classified_batch

ATTACK = Square(eps=0.3, queries=20)


def pair() -> tuple[torch.nn.Module, DefendedClassifier]:
    base = ExactLinear((1, 2, 2))
    head = torch.nn.Linear(4, 4)
    with torch.no_grad():
        head.weight.copy_(base.weight)
        head.bias.copy_(base.bias)
    programs = tuple(parse(t) for t in ("v0 = 0", "v1 = v1 * 2", "v2 = v3"))
    model = DefendedClassifier(torch.nn.Flatten(), head, programs, 4).eval()
    return model.undefended(), model


def test_it_is_the_figure_of_an_evaluation():
    bare, model = pair()
    batch = classified_batch(ExactLinear((1, 2, 2)), (1, 2, 2), n=25, seed=1)
    plan = Plan(
        attack=ATTACK, protocols=("adaptive",), tier=tier_of("quick"), radii=(), sanity=False
    )
    records = evaluate(
        [Subject("undefended", bare, ""), Subject("defended", model, "")], batch, plan, data=""
    ).records
    for subject, role in ((bare, Role.UNDEFENDED), (model, Role.DEFENDED)):
        found = what_is_left(subject, batch, ATTACK, undefended=bare, tier="quick")
        (theirs,) = (r for r in records if r.role is role and r.kind is Kind.STRONGEST)
        assert found.right == pytest.approx(theirs.count, abs=1e-4)
        assert found.n == 25 and found.right <= min(found.ways.values()) <= found.clean
        assert float(found.share.sum()) == pytest.approx(found.right)


def test_it_says_which_attack_did_it():
    bare, model = pair()
    batch = classified_batch(ExactLinear((1, 2, 2)), (1, 2, 2), n=25, seed=1)
    before = what_is_left(bare, batch, ATTACK, tier="quick")
    found = what_is_left(model, batch, ATTACK, undefended=bare, before=before, tier="quick")
    assert set(found.ways) == {"black-box", "white-box", "transferred"}
    assert set(before.ways) == {"black-box", "white-box"}
    assert found.tries[-1].attack == TRIED_AGAIN and found.tries[-1].way == "transferred"
    lowest = min(one.right for one in found.tries)
    assert found.right <= lowest + 1e-6
    clean = what_is_left(model, batch, Square(eps=0.0, queries=2), tier="quick")
    assert clean.right == pytest.approx(clean.clean) and all(t.decisive == 0 for t in clean.tries)
    assert 0 < sum(one.decisive for one in found.tries) <= 25


def test_more_candidates_never_leave_more():
    bare, model = pair()
    batch = classified_batch(ExactLinear((1, 2, 2)), (1, 2, 2), n=25, seed=2)
    before = what_is_left(bare, batch, ATTACK, tier="quick")
    alone = what_is_left(model, batch, ATTACK, tier="quick")
    through = what_is_left(model, batch, ATTACK, undefended=bare, tier="quick")
    again = what_is_left(model, batch, ATTACK, undefended=bare, before=before, tier="quick")
    assert alone.right >= through.right >= again.right


def test_a_model_without_finitely_many_programs_decides_afresh():
    model = RandomPrograms(torch.nn.Flatten(), torch.nn.Linear(4, 4), 4, 2).eval()
    batch = classified_batch(ExactLinear((1, 2, 2)), (1, 2, 2), n=4, seed=1)
    found = what_is_left(model, batch, Square(eps=0.1, queries=4), tier="quick", draws=2)
    assert 0 <= found.right <= 4 and found.every <= 4
    assert all("2 draws" in one.attack for one in found.tries)
