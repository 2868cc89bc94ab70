"""What makes two records one measurement, and what a record says of itself."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from suture.attacks import PGD, Backdoor, DeepFool, Square
from suture.errors import ArgumentError, BundleError
from suture.evaluate import Kind, Plan, Record, Role, Subject, Tier, evaluate
from suture.evaluate.labels import attack_identity
from suture.evaluate.records import identity
from suture.testing.exact import ExactLinear
from suture.types import Batch
from tests.evaluate.test_metrics import record

SHAPE = (1, 4, 4)
PGD_ROW = {
    "kind": "attack",
    "metric": "robust accuracy",
    "attack": attack_identity(PGD(eps=0.1, eot=10)),
    "threat": {"norm": "linf", "eps": 0.1},
}


def subject(role: str, **changes: str) -> Subject:
    return Subject(role, ExactLinear(SHAPE), "linear", **changes)


def measured(*subjects: Subject) -> list[Record]:
    plan = Plan(attack=Square(queries=5), tier=Tier("quick", steps=2), radii=(), sanity=False)
    return evaluate(
        list(subjects), Batch(torch.rand(3, *SHAPE), torch.tensor([0, 1, 2])), plan, data="x"
    ).records


@pytest.mark.parametrize("word", ["before", "after", "", "Undefended"])
def test_a_role_that_is_none_is_refused_with_what_to_write(word: str):
    with pytest.raises(ArgumentError, match='"undefended" is the model before the repair'):
        subject(word)


def test_two_subjects_of_one_role_and_name_are_refused():
    with pytest.raises(ArgumentError, match="differ in role or name"):
        measured(subject("defended"), subject("defended"))


def test_two_subjects_of_one_role_keep_their_names_apart():
    records = measured(
        subject("undefended"), subject("defended", name="a"), subject("defended", name="b")
    )
    assert {r.whose for r in records} == {
        (Role.UNDEFENDED, "undefended"),
        (Role.DEFENDED, "a"),
        (Role.DEFENDED, "b"),
    }
    assert {r.tier for r in records} == {"quick"}
    assert len({identity(r) for r in records}) == len(records)


def test_repeats_are_one_measurement_whatever_they_found_and_cost():
    one = record(**PGD_ROW)
    again = replace(one, repeat=1, right=3, seed=9, seconds=2.0, warnings=["Noise."], tags={"a": 1})
    assert identity(one) == identity(again)


@pytest.mark.parametrize(
    "change",
    [
        {"role": "defended"},
        {"subject": "other"},
        {"model": "elsewhere"},
        {"kind": Kind.CURVE},
        {"draws": 10},
        {"draws": "exact"},
        {"through": "undefended"},
        {"position": "before"},
        {"program": 3},
        {"defence": "A5()"},
        {"attack": attack_identity(PGD(eps=0.1, eot=10, steps=3))},
        {"threat": {"norm": "linf", "eps": 0.2}},
        {"tier": "quick"},
    ],
)
def test_another_measurement_is_another_identity(change: dict[str, object]):
    one = record(**PGD_ROW)
    assert identity(one) != identity(replace(one, **change))


def test_an_expected_number_of_right_images_is_the_accuracy():
    one = record(right=7, expected=7.25)
    assert (one.count, one.percent) == (7.25, 72.5)
    low, high = one.interval
    assert record(right=7).interval[0] < low < record(right=8).interval[0]
    assert record(right=7).interval[1] < high < record(right=8).interval[1]
    assert record(expected=8.0).interval == record().interval


def test_labels_are_made_from_the_fields():
    row = record(**PGD_ROW)
    labels = {
        "PGD-ce 40 steps linf ε=0.1": row,
        "PGD-ce 40 steps linf ε=0.1, 10 draws": replace(row, draws=10),
        "PGD-ce 40 steps linf ε=0.1, exact mean": replace(row, draws="exact"),
        "PGD-ce 40 steps linf ε=0.1, 1 draw, through undefended": replace(
            row, draws=1, through="undefended"
        ),
        "PGD-ce 40 steps linf ε=0.1, attacker before R": replace(row, position="before"),
        "PGD-ce 40 steps linf ε=0.1, program 3 alone": replace(row, program=3, kind=Kind.PROGRAM),
        "images made on the undefended model": replace(row, kind=Kind.TRANSFER),
        "fewer steps (PGD-ce 40 steps linf ε=0.1)": replace(row, kind=Kind.FEWER),
        "clean": record(),
    }
    assert [one.row for one in labels.values()] == list(labels)
    assert row.to_dict()["label"] == "PGD-ce 40 steps linf ε=0.1"


def test_attacks_become_strict_json():
    for attack in (DeepFool(norm="l2"), Backdoor(), Square()):
        told = json.loads(json.dumps(attack_identity(attack), allow_nan=False))
        assert told == attack_identity(attack)
        assert set(told["parameters"]) == set(vars(attack))
    assert attack_identity(Backdoor())["parameters"]["patch"] == [[1.0] * 3] * 3


@pytest.mark.parametrize(
    "change",
    [
        {"each": "10x"},
        {"each": "1" * 3},
        {"images": 5},
        {"role": "before"},
        {"kind": "row"},
        {"kind": []},
        {"protocol": "own"},
        {"attack": "PGD()"},
        {"attack": {"name": "PGD"}},
        {"attack": {"name": "PGD", "parameters": {}, "more": 1}},
        {"attack": {"name": "strongest", "parameters": {}, "of": [1]}},
        {"attack": {"name": "PGD", "parameters": {"a": [[[[[[[[[[]]]]]]]]]]}}},
        {"threat": {"eps": "0.1"}},
        {"threat": {"eps": float("nan")}},
        {"threat": {"eps": 0.1, "queries": -1}},
        {"draws": 0},
        {"draws": True},
        {"draws": "mean"},
        {"expected": 11},
        {"expected": float("nan")},
        {"program": -1},
        {"right": True},
        {"seconds": float("inf")},
        {"row": "clean"},
    ],
)
def test_wrong_fields_are_refused(change: dict[str, object]):
    with pytest.raises(BundleError, match="complete record"):
        Record.from_dict(record().to_dict() | change)


def test_records_tell_each_image_and_which_images_they_were():
    records = measured(subject("undefended"))
    assert {len(r.each) for r in records} == {3}
    assert all(r.each.count("1") == r.right for r in records)
    assert len({r.images for r in records}) == 1 and len(records[0].images) == 64
    others = measured(subject("undefended"))  # other images: drawn anew
    assert others[0].images != records[0].images
