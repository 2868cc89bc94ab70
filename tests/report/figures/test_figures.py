"""Drawings: deterministic, safe inside a page, readable without eyes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import matplotlib as mpl
import pytest

from suture.report import RunData
from suture.report.figures import figures
from suture.report.figures.classes import MOST, class_figure
from suture.report.figures.lines import query_figures, radius_figures
from suture.report.figures.style import spread
from suture.report.figures.trace import game_figure, trace_figure

from ..builders import curve, defended_run, info, programs, record, trace


def test_a_run_gets_the_figures_it_has_numbers_for():
    run = RunData(info(), [*defended_run(), *curve()], None, programs(), trace())
    assert [f.key for f in figures(run)] == [
        "radius-linf-square",
        "queries-linf-square",
        "classes",
        "trace",
    ]
    assert figures(RunData(info(), [])) == []


def test_drawings_are_equal_twice_whatever_the_users_style():
    first = radius_figures(curve())[0].svg
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert radius_figures(curve())[0].svg == first


def test_svg_is_well_formed_and_cannot_style_the_page():
    svg = query_figures(defended_run())[0].svg
    ElementTree.fromstring(svg.replace("xlink:href", "href"))
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert "xmlns" not in svg
    assert all(i.startswith("queries-linf-square-") for i in re.findall(r'\sid="([^"]+)"', svg))


def test_axis_labels_are_plain_numbers():
    svg = query_figures(defended_run())[0].svg
    assert "mathdefault" not in svg
    assert ">10\u202f000<" in svg


def test_captions_and_tables_carry_the_numbers():
    (figure,) = radius_figures(curve())
    assert "defended, adaptive goes from 80\u202f% at 0.05 to 10\u202f% at 0.2" in figure.alt
    assert ("undefended", "0.15", "2.0\u202f%", "0.5–5.0", "4/200") in figure.rows
    assert all(len(row) == len(figure.header) for row in figure.rows)


def test_dollar_signs_and_tags_in_class_names_stay_text():
    figure = class_figure(defended_run(), ["$x^2", "<b>&"])
    assert "$x^2" in figure.svg
    assert "&lt;b&gt;&amp;" in figure.svg


def test_of_many_classes_the_lowest_are_drawn_and_all_are_listed():
    counts = [[i, 100] for i in range(60)]
    records = [
        record("undefended", "x", 3, per_class=counts),
        record("defended", "x", 3, per_class=counts),
    ]
    figure = class_figure(records)
    assert f"the {MOST} of 60 classes" in figure.caption
    assert len(figure.rows) == 60
    assert ">59<" not in figure.svg


def test_a_trace_without_scores_is_not_drawn_and_gaps_are_tolerated():
    assert trace_figure([{"length": 1}]) is None
    assert trace_figure(None) is None
    figure = trace_figure([{"length": 1, "best": 5}, {"length": 2, "best": float("nan")}])
    assert figure.rows[0][:4] == ("1", "—", "—", "5")


@pytest.mark.parametrize("positions", [[0.0, 0.0, 0.0], [97.0, 96.0, 95.0], [50.0, 10.0, 52.0]])
def test_labels_keep_their_distance_and_order(positions):
    placed = spread(positions, 15.0, 97.0)
    ranked = sorted(placed)
    assert all(b - a >= 15.0 - 1e-9 for a, b in pairwise(ranked))
    assert max(placed) <= 97.0
    order = sorted(range(3), key=lambda i: positions[i])
    assert [placed[i] for i in order] == ranked


def test_candidates_and_epochs_are_drawn_against_their_clean_accuracy():
    candidates = [
        {"name": "as given", "n": 50, "clean": 49, "robust": 5, "certified": None,
         "seconds": 0.0, "forward": 1.0, "chosen": False},
        {"name": "pgd-training", "n": 50, "clean": 48, "robust": 40.5, "certified": 20,
         "seconds": 61.2, "forward": 1.01, "chosen": True},
        {"name": "broken", "n": 50, "failed": "expected layers", "seconds": 0.1},
    ]  # fmt: skip
    curve = [{"epoch": 1, "robust": None}, {"epoch": 2, "clean": 0.97, "robust": 0.8}]
    told = {"candidates": candidates, "curve": curve, "before": {"clean": 0.99, "robust": 0.1}}
    tried, epochs = figures(RunData(info(), [], told=told))
    assert tried.rows[1][:3] == (
        "pgd-training ★",
        "96.0 % [86.3, 99.5] (48/50)",
        "81.0 % [67.4, 90.7] (40.5/50)",
    )
    assert tried.rows[2][-1] == "expected layers" and tried.rows[0][-1] == "—"
    assert epochs.rows == (("as given", "99.00 %", "10.00 %"), ("2", "97.00 %", "80.00 %"))
    assert "pgd-training: clean 96.0 %, robust 81.0 %" in tried.alt


def rounds() -> list[dict]:
    values = ((1.0, 0.06, 1, 0.99), (0.21, 0.10, 3, 0.96), (0.15, 0.14, 12, 0.95))
    return [
        {"round": i, "value": v, "attacked": a, "support": s, "clean": c, "programs": 30 * i + 1,
         "variants": 100 * (i + 2)}
        for i, (v, a, s, c) in enumerate(values)
    ]  # fmt: skip


def test_a_game_shows_both_values_of_every_round():
    figure = game_figure(rounds())
    assert figure is not None and len(figure.rows) == 3
    assert figure.rows[1][:4] == ("1", "0.21", "0.1", "0.96")
    assert "6.0 % in round 0, 14.0 % in round 2, at most 15.0 %" in figure.alt
    assert "fresh attack" in figure.svg and "programs in the mixture" in figure.svg
    assert game_figure(None) is None and game_figure([{"round": 0}]) is None
    run = RunData(info(), [], told={"game": rounds()})
    assert [drawing.key for drawing in figures(run)] == ["game"]
