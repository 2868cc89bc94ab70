"""The sentence at the top must never promise more than the lowest row holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from suture.evaluate import Kind
from suture.report import verdict

from .builders import clean, curve, defended_run, full_run, record, strongest, threat


def said(records):
    found = verdict(records)
    return found.kind, " ".join([found.sentence, *found.notes]).replace("\u202f", " ")


def test_a_gain_that_is_mostly_confusion_is_called_so():
    kind, text = said(defended_run(paper=154, adaptive=62))
    assert kind == "confusion"
    assert (
        "Robust accuracy under Square (L∞, ε = 0.15): 2 % → 77 % as the paper measures it, "
        "31 % against an attacker who knows the defence." in text
    )
    assert "Most of the gain is the attacker's confusion: 29.0 of 75.0 points are left" in text
    assert "Clean accuracy: 97 % → 95.5 % (−1.5 points)." in text


def test_a_gain_that_holds_is_called_so():
    kind, text = said(defended_run(paper=154, adaptive=140))
    assert kind == "holds"
    assert "68.0 of 75.0 points are left" in text


def test_half_the_gain_is_the_border():
    assert said(defended_run(paper=154, adaptive=79))[0] == "holds"
    assert said(defended_run(paper=154, adaptive=78))[0] == "confusion"


def test_nothing_left_is_said_plainly():
    kind, text = said(defended_run(paper=154, adaptive=8))
    assert kind == "gone"
    assert "nothing clear is gained" in text


@pytest.mark.parametrize(
    ("paper", "phrase"), [(6, "no clear gain: +1.0 points"), (0, "no clear gain: −2.0 points")]
)
def test_no_gain_under_the_paper_protocol(paper, phrase):
    kind, text = said(defended_run(paper=paper, adaptive=0))
    assert kind == "no gain"
    assert phrase in text


def test_a_harmful_repair_is_named():
    kind, text = said(defended_run(before=100, paper=40, adaptive=30))
    assert kind == "no gain"
    assert "made it worse: −30.0 points" in text


def test_without_an_adaptive_row_the_gain_is_an_upper_limit():
    records = [r for r in defended_run() if r.protocol != "adaptive"]
    kind, text = said(records)
    assert kind == "untested"
    assert "upper limit" in text
    assert "knows the defence." not in text.split("No attacker")[0]


def test_the_worst_adaptive_row_counts_whatever_its_name():
    kind, text = said(full_run())
    assert "15.5 % against an attacker who knows" in text
    assert "“strongest attack per image”" in text
    assert kind == "confusion"


def test_repeats_count_by_their_mean():
    rights = (40, 60, 50)
    repeats = [
        record("defended", "q", k, protocol="adaptive", repeat=i) for i, k in enumerate(rights)
    ]
    assert "25 % against" in said([*defended_run(), *repeats])[1]


def test_a_row_with_a_larger_radius_does_not_stand_against_a_smaller_one():
    unfair = record("defended", "larger", 0, protocol="adaptive", threat=threat(0.5))
    assert "31 % against" in said([*defended_run(), unfair])[1]


def test_sanity_rows_and_curve_points_never_become_the_headline():
    sanity = record("defended", "unbounded", 0, protocol="sanity", threat=threat(float("inf")))
    finite = record("defended", "transferred", 1, protocol="sanity")
    assert said([*defended_run(), sanity, finite, *curve()]) == said(defended_run())


def test_a_failed_sanity_check_takes_a_gain_back():
    masked = record("defended", "more steps", 150, protocol="sanity", warnings=["Steps help."])
    found = verdict([*defended_run(adaptive=140), masked])
    assert (found.kind, found.suspect) == ("doubtful", True)
    assert any("so this gain is not yet shown" in note for note in found.notes)
    assert not verdict(defended_run(adaptive=140)).suspect


def test_an_adaptive_attack_weaker_than_the_papers_is_no_praise():
    text = said(defended_run(paper=140, adaptive=160))[1]
    assert "the lower number counts" in text


def test_an_audit_speaks_of_the_undefended_alone():
    records = [r for r in full_run() if r.subject == "undefended"]
    kind, text = said(records)
    assert kind == "audit"
    assert (
        "Under Square (L∞, ε = 0.15) accuracy goes from 97 % to 2 %. The classifier is fragile"
        in text
    )


def test_runs_without_attack_without_baseline_or_without_records():
    assert said([clean("undefended", 194)]) == (
        "clean",
        "Clean accuracy: 97 %. No attack was run.",
    )
    assert said([record("defended", "PGD", 100)])[0] == "no baseline"
    assert said([])[0] == "empty"


def test_one_program_alone_or_all_at_once_is_not_the_defended_classifier():
    alone = record("defended", "PGD", 2, protocol="adaptive", kind="program", program=0)
    every = replace(strongest("defended", 10), kind=Kind.EVERY)
    text = said([*defended_run(), alone, every])[1]
    assert "31 % against an attacker who knows" in text
    assert "may try again until a weak draw comes leaves 5 % (row “right under every" in text


def test_failed_checks_are_counted_by_row_not_by_repeat():
    repeats = [
        record("defended", "q", 90, protocol="adaptive", repeat=i, warnings=[f"{i} % left."])
        for i in range(3)
    ]
    assert said([*defended_run(), *repeats])[1].startswith(
        "Not to be trusted: 1 sanity check failed. "
    )


def test_like_is_compared_with_like():
    records = [
        record("undefended", "Square", 70),
        record("defended", "Square", 164),
        strongest("undefended", 18),
        strongest("defended", 48),
    ]
    kind, text = said(records)
    assert kind == "confusion"
    assert "35 % → 82 % as the paper measures it, 9 % → 24 % against an attacker who knows" in text
    assert "15.0 of 47.0 points are left" in text
    kind, text = said([*records[:3], replace(records[3], right=10)])
    assert kind == "gone"
    assert "it ends 4.0 points below the undefended classifier" in text
