"""Example images, program pictures, wording, warnings, provenance."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from suture.report.checks import meaning, warned
from suture.report.grid import MOST, amplification, grid, png_uri
from suture.report.programs import DRAWN, flows, picture, program_table
from suture.report.provenance import provenance, script_json
from suture.report.run import Examples, RunData
from suture.report.wording import attack_name, duration, percent, points, radius, threat

from .builders import clean, programs, record, strongest


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def examples(count: int = 2, **changes) -> Examples:
    clean = np.full((count, 1, 2, 2), 0.4, np.float32)
    answers = np.arange(count)
    parts = {
        "clean": clean,
        "adversarial": clean + 0.1,
        "labels": answers,
        "predicted_clean": answers,
        "predicted_adversarial": answers + 1,
        "predicted_defended": None,
        "class_names": ("zero",),
    }
    return Examples(**(parts | changes))


def test_png_holds_the_pixels():
    grey = np.array([[[0.0, 1.0], [0.5, 2.0]]], np.float32)
    assert pixels(png_uri(grey)).tolist() == [[0, 255], [128, 255]]
    colour = np.zeros((3, 1, 2), np.float32)
    colour[0, 0, 1] = 1.0
    assert pixels(png_uri(colour)).tolist() == [[[0, 0, 0], [255, 0, 0]]]
    assert pixels(png_uri(np.zeros((4, 2, 2), np.float32))).shape == (2, 2)


@pytest.mark.parametrize(
    ("change", "factor"), [(0.1, 5), (0.15, 3), (0.6, 1), (0.0, 1), (1e-6, 200)]
)
def test_amplification_is_the_largest_that_does_not_clip(change, factor):
    assert amplification(np.array([change, -change / 2], np.float32)) == factor


def test_difference_is_grey_plus_the_amplified_change():
    found = grid(examples())
    assert found.amplification == 5
    assert pixels(found.examples[0].difference).tolist() == [[255, 255], [255, 255]]


def test_answers_are_judged_and_missing_ones_left_out():
    first, second = grid(examples()).examples
    assert (first.label, second.label) == ("zero", "1")
    assert first.on_clean.right
    assert not first.on_adversarial.right
    assert first.defended is None


def test_only_the_first_examples_are_shown_but_all_are_counted():
    found = grid(examples(count=MOST + 5))
    assert (len(found.examples), found.total) == (MOST, MOST + 5)
    assert grid(None) is None


@pytest.mark.parametrize(
    ("text", "edges"),
    [
        ("v3 = v100 + 3.267", [("v100", "v3")]),
        ("v_3 = max(v_1, v_1); v4 = 2.5", [("v1", "v3"), ("const", "v4")]),
        ("nonsense", []),
        ("", []),
    ],
)
def test_flows_follow_the_text(text, edges):
    assert flows(text) == edges


def test_a_picture_has_one_node_a_feature_and_one_edge_an_operand():
    svg = picture(flows("v3 = v100 + v2; v136 = v2 / v51"))
    assert svg.count('class="read"') == 3
    assert svg.count('class="write"') == 2
    assert svg.count('class="edge"') == 4
    assert 'aria-label="v3 from v100 and v2; v136 from v2 and v51"' in svg
    assert picture([]) == ""


def test_a_hostile_feature_name_is_escaped():
    assert "<b>" not in picture([("<b>", "v1")])


def test_program_table_draws_the_first_and_folds_the_rest():
    table = program_table(programs(30))
    assert (len(table.shown), len(table.folded)) == (DRAWN, 30 - DRAWN)
    assert (table.shown[0].number, table.shown[0].adversarial) == (0, "600/750")
    assert table.most_written == "v136 (30)"
    assert all(row.picture for row in table.shown)
    assert not any(row.picture for row in table.folded)
    assert program_table(None) is None
    assert program_table({"programs": [{}]}).shown[0].score == "—"


def test_wording():
    assert percent(76.5) == "76.5\u202f%"
    assert [points(v) for v in (2.04, -1.5, 0.0, -0.01)] == ["+2.0", "−1.5", "±0.0", "±0.0"]
    assert [radius(v) for v in (8 / 255, 0.2, 1.0, 2.5)] == ["8/255", "0.2", "1", "2.5"]
    assert threat({"norm": "l2", "eps": "inf"}) == "L2, unbounded"
    assert threat({}) == ""
    assert attack_name(clean("undefended", 1)) == "“clean”"
    assert attack_name(strongest("defended", 1)) == "“strongest attack per image”"
    assert attack_name(record("defended", "Square", 1, draws=10)) == "Square"
    assert [duration(v) for v in (0.5, 126, 7800, None)] == [
        "0.5 s",
        "2 min 06 s",
        "2 h 10 min",
        "—",
    ]


def test_every_kind_of_warning_is_explained():
    assert "paint any picture" in meaning("Unbounded radius leaves 12 %.")
    assert "gradients" in meaning("White-box is weaker than black-box.")
    assert "upper limit" in meaning("Something new.")
    twice = [record("defended", "x", 1, repeat=i, warnings=["Noise."]) for i in range(2)]
    assert [w.where for w in warned(twice)] == ["x linf ε=0.15 (defended)"]


def test_missing_provenance_is_a_dash():
    found = provenance(RunData(info={"schema": 1}))
    assert found.command == "—"
    assert dict(found.facts)["Seed"] == "—"
    assert found.parts == ()


def test_script_json_cannot_end_its_element_and_stays_json():
    value = {"</script>": ["<!--", "\u2028", float("inf"), 1.5]}
    raw = script_json(value)
    assert "<" not in raw
    assert "\u2028" not in raw
    assert json.loads(raw) == {"</script>": ["<!--", "\u2028", "inf", 1.5]}
