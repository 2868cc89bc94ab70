"""Cutting boxes: small truths, and verdicts of other people's verifiers."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from torch import nn

from suture import data, models
from suture.certify.verifying import verify
from suture.data import acasxu
from suture.data.vnnlib import Property


def bump():
    """``relu(x) + relu(-x)``: the absolute value, at most 1 on [-1, 1] and 0 at 0."""
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model[2].weight.copy_(torch.tensor([[1.0, 1.0]]))
        model[0].bias.zero_()
        model[2].bias.zero_()
    return model


def above(value):
    """Unsafe: y >= value, for x in [-1, 1]."""
    box = (np.array([-1.0]), np.array([1.0]))
    return Property((box,), ((np.array([[-1.0]]), np.array([-value])),))


def below(value):
    """Unsafe: y <= value."""
    box = (np.array([-1.0]), np.array([1.0]))
    return Property((box,), ((np.array([[1.0]]), np.array([value])),))


def test_what_holds_is_proved_and_what_does_not_is_refuted():
    assert verify(bump(), (1,), above(1.001)).answer == "unsat"
    refuted = verify(bump(), (1,), above(0.999))
    assert refuted.answer == "sat" and abs(float(refuted.counterexample)) >= 0.999
    assert verify(bump(), (1,), below(-0.001)).answer == "unsat"
    assert verify(bump(), (1,), below(0.001)).answer == "sat"


def test_boxes_are_cut_where_one_bound_is_too_loose():
    """``relu(x) - 2 relu(x - 1/2)`` is at most 1/2; on the whole box CROWN gives 1."""
    model = bump()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [1.0]]))
        model[0].bias.copy_(torch.tensor([0.0, -0.5]))
        model[2].weight.copy_(torch.tensor([[1.0, -2.0]]))
    proved = verify(model, (1,), above(0.51))
    assert proved.answer == "unsat" and proved.pieces > 1
    assert verify(model, (1,), above(0.49)).answer == "sat"


def test_all_cases_and_all_boxes_must_be_impossible():
    low, high = (np.array([-1.0]), np.array([-0.5])), (np.array([0.5]), np.array([1.0]))
    unsafe = ((np.array([[1.0]]), np.array([0.4])), (np.array([[-1.0]]), np.array([-1.1])))
    assert verify(bump(), (1,), Property((low, high), unsafe)).answer == "unsat"
    middle = (np.array([-0.1]), np.array([0.1]))
    assert verify(bump(), (1,), Property((low, middle), unsafe)).answer == "sat"


def test_time_runs_out_without_a_claim():
    assert verify(bump(), (1,), below(-1e-12), seconds=-1.0).answer == "unknown"


def verdicts():
    folder = data.folder()
    if folder is None or not (folder / "vnncomp2021_verdicts.csv").is_file():
        return []
    with (folder / "vnncomp2021_verdicts.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(not verdicts(), reason="needs the data folder: set SUTURE_DATA")
def test_acasxu_agrees_with_the_competition():
    """No instance that others refuted is proved, none that they proved is refuted."""
    answers = {}
    rows = [
        r for r in verdicts() if r["benchmark"] == "acasxu" and r["verdict"] in ("sat", "unsat")
    ]
    for row in rows[:: 1 if len(rows) < 100 else 3]:
        number = int(row["property"].removeprefix("prop_").removesuffix(".vnnlib"))
        model = models.load(data.folder() / row["net"])
        found = verify(model, (1, 1, 5), acasxu.acas_property(number), seconds=3)
        answers.setdefault(row["verdict"], []).append(found.answer)
    assert set(answers["sat"]) <= {"sat", "unknown"} and set(answers["unsat"]) <= {
        "unsat",
        "unknown",
    }
    assert answers["unsat"].count("unsat") > 0.8 * len(answers["unsat"])
