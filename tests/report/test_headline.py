"""One headline: whoever states it, the same figures; and never a word more than they allow."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suture import report
from suture.attacks import Backdoor
from suture.cli import results
from suture.evaluate import Kind, Plan, Record, Subject, Tier, evaluate
from suture.report import RunData, verdict
from suture.report.cells import measure
from suture.report.headline import headline
from suture.report.pairing import likeness, partner
from suture.report.wording import percent
from suture.testing.exact import ExactLinear, classified_batch
from suture.types import Batch
from tests.evaluate.test_protocols import SHAPE, defended, undefended

from .builders import N, attack, clean, defended_run, full_run, info, record, strongest, threat

COUNTS = st.integers(0, N)
FAILED = "possible gradient masking: something is wrong."


def demo_results() -> ModuleType:
    path = Path(__file__).parents[2] / "docs" / "demo_results.py"
    spec = importlib.util.spec_from_file_location("demo_results", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@st.composite
def runs(draw: st.DrawFn) -> list[Record]:
    """An undefended and perhaps a defended classifier under some rows, with any counts."""
    roles = draw(st.sampled_from([("undefended",), ("undefended", "defended"), ("defended",)]))
    made = []
    for role in roles:
        made += [
            clean(role, draw(COUNTS)),
            record(role, "Square", draw(COUNTS)),
            record(
                role,
                "Square",
                draw(COUNTS),
                protocol="adaptive",
                draws=draw(st.sampled_from([None, 10, "exact"])),
            ),
            record(role, "PGD", draw(COUNTS), protocol="adaptive", expected=draw(st.floats(0, N))),
            strongest(role, draw(COUNTS)),
            record(
                role,
                "PGD",
                draw(COUNTS),
                protocol="sanity",
                kind=Kind.UNBOUNDED,
                threat=threat(1.0),
            ),
        ]
    kept = draw(st.lists(st.sampled_from(made), min_size=1, unique_by=id))
    failed = draw(st.booleans())
    return [replace(r, warnings=[FAILED] if failed and draw(st.booleans()) else []) for r in kept]


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def all_said(records: list[Record]) -> str:
    found = verdict(records)
    return " ".join([found.badge, found.sentence, *found.notes])


@settings(max_examples=300, deadline=None)
@given(runs())
def test_where_a_check_failed_the_first_sentence_says_so_and_nothing_survives(records):
    judged = [r for r in records if r.role == "defended"] or records
    failed = [r for r in judged if r.warnings]
    first = verdict(records).sentence
    assert first.startswith("Not to be trusted: ") == bool(failed)
    if failed:
        assert f"{len(failed)} sanity check" in first.split(".")[0]
        assert not words(all_said(records)) & {"survives", "survive", "holds", "hold", "withstands"}


@settings(max_examples=100, deadline=None)
@given(runs())
def test_one_headline_in_four_places(records):
    found, head = verdict(records), headline(records)
    facts = results.answer(records, Path("run"), Path("run/report.html"), 1.0)
    shares = head.figures["robust_accuracy"].values()
    stated = [s for s in (*shares, head.figures["clean_accuracy"]) if s is not None]
    assert {k: facts[k] for k in head.figures} == head.figures
    assert facts["verdict"] == found.sentence
    assert found.sentence in results.text(records, facts)
    page = report.render(RunData(info(), records))
    assert found.sentence in page
    readme = demo_results().box(RunData(info(), records))
    assert f"> {found.sentence}" in readme
    for share in stated:
        assert percent(share, 1).replace("\u202f", " ") in readme
    for measured in (head.paper, head.adaptive):
        if measured:
            assert percent(measured.cell.percent) in found.sentence


def test_an_evaluation_under_a_backdoor_names_it_with_its_figure():
    batch = classified_batch(ExactLinear(SHAPE), SHAPE, n=20, seed=4)
    subjects = [undefended(), defended("v0 = v0", "v1 = v1")]
    plan = Plan(attack=Backdoor(), eot=(1,), repeats=1, tier=Tier(steps=3))
    for part in (subjects[:1], subjects):
        records = evaluate(part, batch, plan, data="x").records
        found = verdict(records)
        assert "No attack was run" not in found.sentence
        assert "L0, unbounded" in found.sentence
        assert percent(found.headline.figures["robust_accuracy"]["before"]) in found.sentence
    assert "Backdoor (L0, unbounded)" in found.sentence


def test_an_unbounded_attack_beside_a_bounded_one_is_named_too():
    far = threat(float("inf")) | {"norm": "l0"}
    backdoor = [
        record("undefended", "Backdoor", 150, threat=far, protocol="adaptive"),
        record("defended", "Backdoor", 20, threat=far, protocol="adaptive"),
    ]
    found = verdict([*defended_run(), *backdoor])
    assert found.sentence.replace("\u202f", " ") == (
        "Robust accuracy under Square (L∞, ε = 0.15): 2 % → 77 % as the paper measures it, 31 % "
        "against an attacker who knows the defence; under Backdoor (L0, unbounded) 75 % → 10 %."
    )
    assert verdict([*defended_run(), *backdoor]).kind == verdict(defended_run()).kind


def test_a_quick_tier_is_never_called_final():
    quick = [replace(r, tier="quick") for r in full_run()]
    assert verdict(quick).sentence.endswith(" (quick tier).")
    assert "quick" not in verdict([replace(r, tier="full") for r in full_run()]).sentence


def test_rows_pair_by_attack_and_parameters_not_by_label():
    square = {"queries": 100, "eot": 1, "eps": 0.15}
    before = measure(
        [
            record("undefended", "Square", 9, attack=attack("Square", **square)),
            record("undefended", "Square", 5, attack=attack("Square", **square | {"p_init": 0.1})),
        ]
    )
    averaged = {"queries": 1000, "eot": 10, "early_stop": False, "eps": 0.15}
    after = record(
        "defended",
        "Square",
        40,
        attack=attack("Square", **averaged),
        draws=10,
        through="undefended",
        protocol="adaptive",
    )
    (m,) = measure([after])
    assert partner(m, before) is before[0]
    assert before[0].first.row == before[1].first.row
    earlier = partner(measure([replace(after, position="before")])[0], before)
    assert earlier is before[0], "the classifier before the repair moves no images"
    assert likeness(after) != likeness(replace(after, threat=threat(0.2)))


def test_of_several_defended_classifiers_one_is_judged_and_the_others_are_named():
    other = [record("defended", "Square", 2, subject="other"), clean("defended", 3)]
    other[1] = replace(other[1], subject="other")
    alone, both = verdict(defended_run()), verdict([*defended_run(), *other])
    assert both.sentence == alone.sentence
    assert both.notes[-1] == "Only in the table: other."


def test_two_subjects_of_other_roles_or_names_never_share_a_column():
    batch = Batch(*vars(classified_batch(ExactLinear(SHAPE), SHAPE, n=6, seed=4)).values())
    model = ExactLinear(SHAPE)
    subjects = [
        Subject("undefended", model, "a"),
        Subject("defended", model, "b"),
        Subject("defended", model, "c", name="second"),
    ]
    plan = Plan(tier=Tier(steps=2), radii=(), sanity=False)
    rows = report.tables.accuracy_rows(evaluate(subjects, batch, plan, data="x").records)
    names = [row.name for row in rows if row.group == "clean"]
    assert names == ["clean", "clean, second"]
    assert all(row.undefended and row.defended for row in rows if row.group == "clean")


@pytest.mark.parametrize("kind", [Kind.NOISE, Kind.UNBOUNDED, Kind.FEWER, Kind.CERTIFIED])
def test_what_is_no_attack_on_the_classifier_never_becomes_the_headline(kind):
    side = record("defended", "PGD", 0, kind=kind, protocol="adaptive")
    assert verdict([*defended_run(), side]).sentence == verdict(defended_run()).sentence
