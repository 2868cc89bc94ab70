"""The repair that chooses: its rules by hand, one whole search, and its words."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from suture.auto import Auto
from suture.auto.candidates import Budget, Proposal, candidates, within
from suture.auto.judging import affordable, better, shortened
from suture.auto.method import LITTLE, chosen
from suture.auto.words import why
from suture.engine import Inline, Recorded, Run
from suture.errors import ArgumentError
from suture.evaluate import Tier
from suture.evaluate.tiers import TIERS
from suture.repairs import Context, PGDTraining, Status
from suture.testing.repairs import Finished, trained
from suture.testing.small import digits

BRIEF = Tier(steps=10, queries=20)
METHOD = Auto(eps=0.15, epochs=15, judged=60, attacker=BRIEF)


def row(name: str, clean: float, robust: float, *, sure: bool = True, **more: Any) -> dict:
    return {"name": name, "n": 100, "clean": clean, "robust": robust, "certified": None,
            "sure": sure, "forward": 1.0, **more}  # fmt: skip


GIVEN = row("as given", 98, 20, sure=False)


@pytest.mark.parametrize(
    ("rows", "by", "best"),
    [
        ([row("a", 95, 50), row("b", 94, 60)], "robust", 2),
        ([row("a", 95, 50), row("b", 87, 60)], "robust", 1),  # loses eleven points
        ([row("a", 95, 25, sure=False)], "robust", 0),
        ([row("a", 0, 0, failed="expected …")], "robust", 0),
        ([row("a", 95, 50, certified=10), row("b", 95, 40, certified=30)], "certified", 2),
        ([row("a", 95, 50)], "certified", 0),
    ],
)
def test_the_best_within_the_limit_is_chosen_and_nothing_that_may_be_chance(rows, by, best):
    assert chosen([GIVEN, *rows], by, 10.0) == best


def test_chance_is_a_paired_matter():
    """Five more right of five changed: 5 > 1.645·√5. Five more of thirteen: 5 < 1.645·√13."""
    before = torch.zeros(40)
    up = before.clone()
    up[:5] = 1
    assert better(up, before)
    mixed, held = before.clone(), before.clone()
    mixed[:9], held[9:13] = 1, 1
    assert not better(mixed, held)
    assert not better(before, before)


def test_radii_of_other_norms():
    assert within("linf", 0.1, 784) == 0.1
    assert within("l2", 1.4, 784) == pytest.approx(0.1)
    assert within("l1", 10, 784) == pytest.approx(20 / 784)


@pytest.mark.parametrize(("norm", "count"), [("linf", 3), ("l2", 4), ("l1", 4), ("l0", 1)])
def test_what_is_tried_shares_the_time(norm, count):
    found = list(candidates(norm, 2.0 if norm == "l0" else 0.1, digits().train.batch(50), 5.0,
                            Budget(10.0, None, 1e-6)))  # fmt: skip
    assert len(found) == count
    assert sum(c.method.minutes for c in found) == pytest.approx(10.0)


def test_a_judgement_that_would_take_too_long_has_fewer_images():
    """400 forwards with backwards an image: in 4 s at 0.1 ms an image a hundred images fit."""
    assert affordable(1e-4, 4.0, 500) == 100
    assert affordable(1e-4, 1e9, 500) == 500
    assert affordable(1.0, 1.0, 500) == 50 and affordable(1.0, 1.0, 30) == 30


def test_a_slow_network_learns_from_fewer_images():
    """Six epochs of four passes an image: in 240 s at 10 ms an image a thousand fit."""
    method = Budget(8.0, None, 1e-2).of(PGDTraining(), 0.5, 50_000)
    assert method.samples == 1000 and method.minutes == 4.0
    assert method.judged == 20 and method.judged_epochs == 2
    quick = Budget(8.0, None, 1e-6).of(PGDTraining(), 0.5, 50_000)
    assert quick.samples is None and quick.judged == 1000 and quick.judged_epochs == 5


def test_words_say_why_or_that_nothing_helps():
    assert "a: 50.0 % [39.8–60.2]" in why([GIVEN, row("a", 95, 50)], 1, "robust", 10)
    assert "3.0 points" in why([GIVEN, row("a", 95, 50)], 1, "robust", 10)
    assert why([GIVEN, row("a", 95, 21)], 0, "robust", 10).startswith("Nothing helps:")
    assert "more than 1 points" in why([GIVEN, row("a", 95, 50)], 0, "robust", 1)
    assert "every method failed" in why([GIVEN, row("a", 0, 0, failed="x")], 0, "robust", 1)


@pytest.mark.parametrize("wrong", [{"eps": 8}, {"minutes": 0}, {"norm": "l3"}, {"choose": "any"}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ArgumentError):
        Auto(**wrong)


def test_a_search_finds_what_helps_and_is_not_done_again(tmp_path):
    run = Run.create(tmp_path, kind="repair", title="", command="", seed=3, options={})
    data = digits().train.batch()
    with run:
        found = METHOD(trained(), data, generator=3, engine=Recorded(Inline(), run.ledger))
        again = METHOD(trained(), data, generator=3, engine=Finished(Inline(), run.ledger))
    assert found.status is Status.TUNED
    rows = found.trace["candidates"]
    assert [r["chosen"] for r in rows].count(True) == 1 and not rows[0]["chosen"]
    best = next(r for r in rows if r["chosen"])
    assert best["robust"] > 2 * rows[0]["robust"]
    assert again.trace["candidates"] == rows
    states = (found.model.state_dict(), again.model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_slow_network_meets_a_shorter_attack():
    """50 images at 400 passes of 10 ms would take 200 s; where 20 s are left, a tenth of it."""
    quick = TIERS["quick"]
    assert shortened(quick, 1e-4, 20.0) == quick
    brief = shortened(quick, 1e-2, 20.0)
    assert (brief.steps, brief.queries, brief.restarts) == (5, 30, 1) and brief.targets == 3
    assert brief.name == "quick, shortened"


def test_a_candidate_gets_what_is_left_and_the_same_again_after_a_kill(tmp_path):
    run = Run.create(tmp_path, kind="repair", title="", command="", seed=3, options={})
    auto, jury = Auto(minutes=10.0), SimpleNamespace(seconds=60.0)
    candidate = Proposal("x", PGDTraining(minutes=6.0), "")
    with run:
        context = Context.of(engine=Recorded(Inline(), run.ledger))
        for started, place, minutes in ((0, "a", 6.0), (300, "b", 4.0), (900, "c", LITTLE),
                                        (0, "b", 4.0)):  # fmt: skip
            found = auto._in_time(candidate, time.perf_counter() - started, jury, context, place)
            assert found.method.minutes == pytest.approx(minutes, abs=0.01)
    repeated = Auto(epochs=3)._in_time(candidate, 0.0, jury, Context.of(), "d")
    assert repeated is candidate
