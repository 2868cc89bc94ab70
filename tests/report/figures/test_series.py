"""The numbers behind the lines, computed by hand."""

from __future__ import annotations

import math

import pytest

from suture.report.cells import Measured
from suture.report.figures.series import budgets_of, class_shares, query_series, radius_series

from ..builders import N, clean, curve, defended_run, record, threat


def test_radius_lines_start_at_clean_accuracy_and_come_sorted():
    series = radius_series([clean("undefended", 194), *reversed(curve())])["linf"]
    assert [s.look for s in series] == ["undefended", "paper", "adaptive"]
    assert series[0].x == (0.0, 0.05, 0.1, 0.15, 0.2)
    assert series[0].y == (97.0, 60.0, 20.0, 2.0, 0.0)
    assert series[1].x[0] == 0.05


def test_norms_do_not_share_a_figure_and_one_point_makes_no_line():
    l2 = [
        record("undefended", "PGD", 9, kind="curve", threat={"norm": "l2", "eps": eps})
        for eps in (1.0, 2.0)
    ]
    lone = record("undefended", "PGD", 9, kind="curve", threat={"norm": "l1", "eps": 1.0})
    assert set(radius_series([*curve(), *l2, lone])) == {"linf", "l2"}


def test_an_unbounded_radius_cannot_be_drawn():
    far = record("defended", "PGD", 0, kind="curve", threat=threat(math.inf))
    assert all(max(s.x) < 1 for s in radius_series([*curve(), far])["linf"])


def test_queries_count_down_to_the_recorded_accuracy():
    found = {s.look: s for s in query_series(defended_run())}
    assert found["undefended"].y[0] == pytest.approx(97.0)
    assert found["undefended"].y[-1] == pytest.approx(2.0)
    assert found["adaptive"].y[-1] == pytest.approx(31.0)
    assert found["adaptive"].x[-1] == 10000
    assert all(list(s.y) == sorted(s.y, reverse=True) for s in found.values())


def test_query_repeats_are_averaged():
    a = record("undefended", "Square", 1, queries=[0, 10, None], n=3)
    b = record("undefended", "Square", 2, queries=[0, None, None], n=3, repeat=1)
    (line,) = query_series([a, b])
    assert line.y[-1] == pytest.approx(50.0)
    assert line.counts[-1] == "1.5/3"


def test_budgets_hold_the_decades_and_reach_the_allowance():
    m = Measured((record("undefended", "Square", 0, queries=[3] * N),))
    assert {1, 10, 100, 1000} <= set(budgets_of(m))
    assert max(budgets_of(m)) == 1000


def test_class_shares_pool_repeats_and_mark_absent_classes():
    a = record("undefended", "x", 3, per_class=[[1, 2], [2, 4]])
    b = record("undefended", "x", 3, per_class=[[2, 2], [2, 4], [0, 0]], repeat=1)
    shares = class_shares(Measured((a, b)))
    assert shares[:2] == [75.0, 50.0]
    assert math.isnan(shares[2])


def test_a_fixed_budget_spent_on_every_image_makes_no_line():
    fixed = record("undefended", "PGD", 1, queries=[0, 40, 40, 40, None], n=5)
    held = record("undefended", "Square", 4, queries=[0, None, None, None, None], n=5)
    assert query_series([fixed]) == []
    assert query_series([fixed, held])[0].y[-1] == pytest.approx(80.0)
