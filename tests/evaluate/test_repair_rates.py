"""The rates of a repair, counted by hand."""

from __future__ import annotations

import pytest
import torch

from suture.errors import ArgumentError
from suture.evaluate.repair_rates import (
    defence_success,
    drawdown,
    fidelity_drawdown,
    points,
    repair_success,
)

LABELS = torch.tensor([0, 1, 2, 3])
BEFORE, AFTER = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 0, 1])


def test_repair_success_counts_the_true_class():
    assert repair_success(AFTER, LABELS) == (2, 4)


def test_drawdown_is_what_n_got_right_minus_what_f_does():
    assert drawdown(BEFORE, AFTER, LABELS) == (3, 2, 4)
    assert points(3, 2, 4) == 25.0
    assert points(2, 3, 4) == -25.0


def test_fidelity_drawdown_counts_changes_right_or_wrong():
    assert fidelity_drawdown(BEFORE, AFTER) == (2, 4)
    assert fidelity_drawdown(BEFORE, BEFORE) == (0, 4)


def test_defence_success_counts_balls_that_held():
    assert defence_success(torch.tensor([True, False, False])) == (2, 3)


def test_other_inputs_are_refused():
    with pytest.raises(ArgumentError, match="one shape"):
        fidelity_drawdown(BEFORE, AFTER[:3])
    with pytest.raises(ArgumentError, match="one shape"):
        repair_success(BEFORE[:0], AFTER[:0])
