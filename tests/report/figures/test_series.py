"""The numbers behind the lines, computed by hand."""

from __future__ import annotations

import math

import pytest

from suture.evaluate import Record
from suture.report.cells import MeasuredCell
from suture.report.figures.lines import query_figures, radius_figures
from suture.report.figures.series import budgets_of, class_shares, query_panels, radius_panels

from ..builders import N, attack, clean, curve, defended_run, record, spent, threat


def test_radius_lines_start_at_clean_accuracy_and_come_sorted():
    (panel,) = radius_panels([clean("undefended", 194), *reversed(curve())])
    series = panel.lines
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
    panels = radius_panels([*curve(), *l2, lone])
    assert [(p.norm, p.attack, p.missing) for p in panels] == [
        ("linf", "Square", ""),
        ("l2", "PGD", "defended"),
    ]


def test_an_unbounded_radius_cannot_be_drawn():
    far = record("defended", "PGD", 0, kind="curve", threat=threat(math.inf))
    panels = radius_panels([*curve(), far])
    assert [p.attack for p in panels] == ["Square"]
    assert all(max(line.x) < 1 for line in panels[0].lines)


def test_queries_count_down_to_the_recorded_accuracy():
    (panel,) = query_panels(defended_run())
    found = {s.look: s for s in panel.lines}
    assert found["undefended"].y[0] == pytest.approx(97.0)
    assert found["undefended"].y[-1] == pytest.approx(2.0)
    assert found["adaptive"].y[-1] == pytest.approx(31.0)
    assert found["adaptive"].x[-1] == 10000
    assert all(list(s.y) == sorted(s.y, reverse=True) for s in found.values())


def test_query_repeats_are_averaged():
    a = record("undefended", "Square", 1, queries=[0, 10, None], n=3)
    b = record("undefended", "Square", 2, queries=[0, None, None], n=3, repeat=1)
    (line,) = query_panels([a, b])[0].lines
    assert line.y[-1] == pytest.approx(50.0)
    assert line.counts[-1] == "1.5/3"


def test_budgets_hold_the_decades_and_reach_the_allowance():
    m = MeasuredCell((record("undefended", "Square", 0, queries=[3] * N),))
    assert {1, 10, 100, 1000} <= set(budgets_of(m))
    assert max(budgets_of(m)) == 1000


def test_class_shares_pool_repeats_and_mark_absent_classes():
    a = record("undefended", "x", 3, per_class=[[1, 2], [2, 4]])
    b = record("undefended", "x", 3, per_class=[[2, 2], [2, 4], [0, 0]], repeat=1)
    shares = class_shares(MeasuredCell((a, b)))
    assert shares[:2] == [75.0, 50.0]
    assert math.isnan(shares[2])


def test_a_fixed_budget_spent_on_every_image_makes_no_line():
    fixed = record("undefended", "PGD", 1, queries=[0, 40, 40, 40, None], n=5)
    held = record("undefended", "Square", 4, queries=[0, None, None, None, None], n=5)
    assert query_panels([fixed]) == []
    assert query_panels([fixed, held])[0].lines[0].y[-1] == pytest.approx(80.0)


def test_no_panel_holds_two_attacks():
    """Square before and after; APGD, measured after only, alone; and the reader is told."""
    lower = record("defended", "APGD", 20, protocol="adaptive", draws=10, queries=spent(20, 9))
    panels = query_panels([*defended_run(), lower])
    assert [(p.attack, [line.look for line in p.lines], p.missing) for p in panels] == [
        ("Square", ["undefended", "paper", "adaptive"], ""),
        ("APGD", ["adaptive"], "undefended"),
    ]
    assert panels[1].lines[0].source == "10 draws"
    told = query_figures([*defended_run(), lower])[1].caption
    assert "The undefended classifier was not measured under this attack." in told


def test_radius_lines_of_two_attacks_or_parameters_never_share_a_panel():
    def points(role: str, name: str, steps: int) -> list[Record]:
        own = {"kind": "curve", "protocol": "adaptive", "attack": attack(name, steps=steps, eot=1)}
        return [record(role, name, 9, threat=threat(eps), **own) for eps in (0.1, 0.2)]

    both = [*points("undefended", "PGD", 40), *points("defended", "PGD", 40)]
    panels = radius_panels([*curve(), *both, *points("defended", "PGD", 10)])
    assert [(p.attack, len(p.lines), p.missing) for p in panels] == [
        ("Square", 3, ""),
        ("PGD", 2, ""),
        ("PGD", 1, "undefended"),
    ]
    keys = [
        figure.key for figure in radius_figures([*curve(), *both, *points("defended", "PGD", 3)])
    ]
    assert keys == ["radius-linf-square", "radius-linf-pgd", "radius-linf-pgd-2"]
