"""The before/after table: pairing, grouping, means, intervals."""

from __future__ import annotations

import pytest

from suture.report import tables

from .builders import attack, clean, curve, defended_run, full_run, record, threat


def row_named(records, name):
    (row,) = [row for row in tables.accuracy_rows(records) if row.name == name]
    return row


def test_numbers_are_those_computed_by_hand():
    row = row_named(defended_run(), "Square linf ε=0.15")
    assert (row.undefended.percent, row.defended.percent, row.change) == (2.0, 77.0, 75.0)
    # Clopper-Pearson for 4 of 200, from published tables: 0.55 % to 5.04 %.
    assert (row.undefended.low, row.undefended.high) == pytest.approx((0.55, 5.04), abs=0.005)
    assert row.defended.counts == "154/200"
    assert row.change_is_clear
    assert row.trend == "up"


def test_a_change_inside_the_intervals_is_unclear():
    row = row_named(defended_run(), "clean")
    assert row.change == -1.5
    assert (row.change_is_clear, row.trend) == (False, "unclear")


def test_repeats_become_a_mean_with_spread_and_an_interval_that_covers_all():
    rights = (82, 90, 86)
    rows = [record("defended", "r", k, protocol="adaptive", repeat=i) for i, k in enumerate(rights)]
    cell = row_named(rows, "r linf ε=0.15").defended
    assert cell.percent == pytest.approx(43.0)
    assert cell.spread == (41.0, 45.0)
    assert cell.counts == "82–90/200"
    assert cell.low == min(r.interval[0] for r in rows)
    assert cell.high == max(r.interval[1] for r in rows)


def test_groups_come_in_reading_order():
    groups = [row.group for row in tables.accuracy_rows(list(reversed(full_run())))]
    assert groups == sorted(groups, key=list(tables.GROUPS).index)
    assert set(groups) == {"clean", "paper", "adaptive", "sanity"}


def test_curve_points_stay_out_of_the_table_unless_alone():
    assert len(tables.accuracy_rows([*defended_run(), *curve()])) == 3
    assert len(tables.accuracy_rows(curve())) == 8


def test_a_baseline_measured_once_stands_in_every_group_that_repeats_its_row():
    records = [
        record("undefended", "PGD", 10),
        record("defended", "PGD", 100),
        record("defended", "PGD", 50, protocol="adaptive"),
    ]
    assert [row.change for row in tables.accuracy_rows(records)] == [45.0, 20.0]


def test_another_radius_is_another_row():
    records = [
        record("undefended", "PGD", 10, threat=threat(0.3)),
        record("defended", "PGD", 100, threat=threat(0.1)),
    ]
    rows = tables.accuracy_rows(records)
    assert len(rows) == 2
    assert all(row.change is None for row in rows)


def test_two_defences_under_one_row_stay_apart():
    records = [
        record("undefended", "PGD", 10),
        record("defended", "PGD", 100, defence="A5()"),
        record("defended", "PGD", 60, defence="DARE()"),
    ]
    names = {row.name: row.change for row in tables.accuracy_rows(records)}
    assert names == {
        "PGD linf ε=0.15 — A5()": 45.0,
        "PGD linf ε=0.15 — DARE()": 25.0,
    }


def test_other_metrics_are_named():
    row = row_named([record("defended", "x", 9, metric="RSR")], "x linf ε=0.15 (RSR)")
    assert row.undefended is None


def test_text_shows_percent_interval_counts_and_flags():
    text = tables.text(full_run())
    line = next(line for line in text.splitlines() if "Square linf ε=0.15  " in line)
    assert "77.0\u202f% [70.5–82.6] 154/200" in line
    assert line.endswith("+75.0")
    assert "unbounded radius (PGD linf unbounded) !" in text
    assert "! unbounded radius (PGD linf unbounded): Unbounded radius leaves 15 %" in text
    assert "−1.5 ~" in text
    assert "~ the 95 % intervals overlap" in text


def test_text_without_a_defence_has_one_column():
    text = tables.text([clean("undefended", 194), record("undefended", "PGD", 4)])
    assert text.splitlines()[0].split() == ["accuracy"]
    assert "Under attack" in text
    assert "defended" not in text


def test_text_without_records_says_so():
    assert tables.text([]) == "No records yet."


def test_markdown_cannot_be_broken_by_a_row_name():
    table = tables.markdown([record("defended", "a|b\n<b>", 4)])
    body = table.splitlines()[2]
    assert body.count("|") - body.count("\\|") == 5
    assert "<b>" not in table


def test_averaged_rows_stand_beside_the_plain_row_of_a_classifier_that_does_not_draw():
    square, pgd = attack("Square", queries=100, eot=1), attack("PGD", steps=9, eot=1)
    averaged = attack("Square", queries=1000, eot=10, early_stop=False)
    told = {"protocol": "adaptive", "draws": 10}
    records = [
        record("undefended", "PGD", 0, protocol="adaptive", attack=pgd),
        record("undefended", "Square", 4, attack=square),
        record("undefended", "Square", 4, protocol="adaptive", attack=square),
        record("defended", "Square", 154, attack=square),
        record("defended", "PGD", 60, attack=attack("PGD", steps=9, eot=10), **told),
        record("defended", "Square", 62, attack=averaged, **told),
    ]
    rows = tables.accuracy_rows(records)
    assert [(row.group, row.change) for row in rows] == [
        ("paper", 75.0),
        ("adaptive", 30.0),
        ("adaptive", 29.0),
    ]
