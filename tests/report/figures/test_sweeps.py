"""Drawings of the DefEnSyn study: the numbers behind them, and SVG that can stand on a page."""

from __future__ import annotations

import pytest

from suture.report.figures.programs import change_figure, correlation_figure, program_figure
from suture.report.figures.sweeps import SweepPoint, sweep_figure


def test_a_sweep_has_its_numbers_in_words():
    series = {
        "clean": [SweepPoint(1, 9, 10), SweepPoint(5, 8, 10)],
        "adaptive": [SweepPoint(1, 3, 10)],
    }
    drawing = sweep_figure("k", "K <30>", "K", series, "What.")
    assert drawing.svg.startswith("<svg") and "<style" not in drawing.svg
    assert drawing.rows[0] == ("clean", "1", "90.0 %", "9/10")
    assert drawing.rows[2] == ("adaptive", "1", "30.0 %", "3/10")
    assert "80 % at 5" in drawing.alt and "adaptive: 30 % at 1" in drawing.alt
    assert drawing.svg == sweep_figure("k", "K <30>", "K", series, "What.").svg


def test_a_points_interval_is_clopper_pearsons():
    low, high = SweepPoint(0, 0, 10).interval
    assert low == 0 and high == pytest.approx(100 * (1 - 0.025**0.1))


def test_changes_and_correlations():
    changes = change_figure("c", "Changes", [0.0, 50.0, 2.0, 1.0])
    assert "4 bars" in changes.alt and "50.0 %" in changes.alt
    assert changes.rows[1] == ("v1", "50.00")
    matrix = correlation_figure("r", "Correlation", [3, 8, 9],
                                [[1, -0.9, 0.1], [-0.9, 1, 0.2], [0.1, 0.2, 1]])  # fmt: skip
    assert "v8 and v3" in matrix.alt and "0.90" in matrix.alt
    assert matrix.rows[0] == ("v3", "1.000", "-0.900", "0.100")


def test_a_program_is_text_and_a_diagram():
    drawing = program_figure("p", "Program", "v3 = v100 + 3.267; v136 = v2 / v51")
    assert drawing.caption == "v3 = v100 + 3.267; v136 = v2 / v51"
    assert drawing.rows == (("v100", "v3"), ("v2", "v136"), ("v51", "v136"))
    assert drawing.svg.startswith("<svg") and "v136" in drawing.svg
