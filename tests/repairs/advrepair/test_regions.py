"""Balls and properties as boxes with claims, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from suture.data.vnnlib import Property, parse_vnnlib
from suture.errors import ArgumentError
from suture.repairs.advrepair import balls, of_property
from suture.repairs.advrepair.regions import per_clause, worst_clause
from suture.types import Batch

TEXT = """
(declare-const X_0 Real) (declare-const X_1 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real) (declare-const Y_2 Real)
(assert (>= X_0 0.1)) (assert (<= X_0 0.3)) (assert (>= X_1 -1)) (assert (<= X_1 1))
(assert (or (and (<= Y_1 Y_0) (<= Y_2 Y_0)) (and (>= Y_2 3))))
"""


def around(*points, labels=None, radius=0.1):
    images = torch.tensor(points).view(len(points), 1, 1, -1)
    labels = torch.zeros(len(points), dtype=torch.int64) if labels is None else torch.tensor(labels)
    return balls(Batch(images, labels), radius, 3)


def test_a_ball_claims_that_the_label_stays():
    regions = around([0.05, 0.5], labels=[1])
    torch.testing.assert_close(regions.box.lower.flatten(), torch.tensor([0.0, 0.4]))
    torch.testing.assert_close(regions.box.upper.flatten(), torch.tensor([0.15, 0.6]))
    assert regions.rows.tolist() == [[[-1, 1, 0], [0, 1, -1]]]
    outputs = torch.tensor([[0.0, 2.0, 1.0], [0.0, 2.0, 2.0]])
    assert regions.holds(outputs, torch.tensor([0, 0])).tolist() == [True, False]


def test_a_property_is_its_negation_in_clauses():
    regions = of_property(parse_vnnlib(TEXT), (1, 1, 2))
    assert regions.clause == (0, 0, 1) and not regions.cubes
    # Safe: (Y_1 > Y_0 or Y_2 > Y_0), and Y_2 < 3.
    outputs = torch.tensor([[0.0, 1, -1], [0.0, -1, -1], [0.0, 1, 4], [0.0, -1, 2]])
    found = regions.holds(outputs, torch.zeros(4, dtype=torch.int64))
    assert found.tolist() == [True, False, False, True]
    given = parse_vnnlib(TEXT)
    assert (~given.violated_by(outputs.numpy())).tolist() == found.tolist()


def test_boxes_of_properties_are_rounded_outwards():
    regions = of_property(parse_vnnlib(TEXT), (1, 1, 2))
    low, high = (b.double().flatten() for b in (regions.box.lower, regions.box.upper))
    assert low[0] <= 0.1 and high[0] >= 0.3
    assert low[0] > 0.1 - 1e-7 and high[0] < 0.3 + 1e-7


def test_a_property_without_conditions_is_refused():
    box = (np.zeros(2), np.ones(2))
    with pytest.raises(ArgumentError, match="boxes of inputs"):
        of_property(Property((box,), ()), (1, 1, 2))


def test_of_a_clause_the_best_form_counts_and_of_clauses_the_worst():
    values = torch.tensor([[1.0, 5.0, 3.0], [-2.0, -1.0, 7.0]])
    assert per_clause(values, (0, 0, 1)).tolist() == [[5, 3], [-1, 7]]
    assert worst_clause(values, (0, 0, 1)).tolist() == [3, -1]
    assert worst_clause(values, (0, 1, 2)).tolist() == [1, -2]


def test_a_claim_names_the_best_form_of_each_clause():
    regions = of_property(parse_vnnlib(TEXT), (1, 1, 2))
    rows, add, bounds = regions.claim(0, torch.tensor([0.5, 2.0, 0.25]))
    assert rows.tolist() == [[-1, 0, 1], [0, 0, -1]] and add.tolist() == [0, 3]
    assert bounds.tolist() == [2.0, 0.25]


def test_balls_of_one_class_that_overlap_share_a_patch():
    regions = around([0.1, 0.1], [0.25, 0.1], [0.4, 0.1], [0.1, 0.2], labels=[0, 0, 0, 1])
    # 0 meets 1, 1 meets 2, so all three are one group; 3 meets 0 and 1 but is of another class.
    groups = regions.groups().tolist()
    assert groups[0] == groups[1] == groups[2] != groups[3]
    assert around([0.1, 0.1], [0.35, 0.1]).groups().tolist() == [0, 1]
    wide = of_property(parse_vnnlib(TEXT), (1, 1, 2))
    assert wide.overlaps().tolist() == [[0], [0]]
