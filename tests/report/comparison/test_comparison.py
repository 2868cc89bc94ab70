"""What a comparison says: by hand on invented runs."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from dataclasses import replace

import pytest

from suture.errors import ArgumentError, BundleError
from suture.report import RunData
from suture.report.comparison import ComparedRun, opened, render, write
from suture.report.comparison.fairness import comparable, fairness
from suture.report.comparison.rows import alone, compared_rows
from suture.report.comparison.settings import settings

from ..builders import N, clean, defended_run, info, record, strongest, threat
from ..test_page import HOSTILE, Outline


def outcomes(right: int, shift: int = 0) -> str:
    marks = "1" * right + "0" * (N - right)
    return marks[-shift:] + marks[:-shift] if shift else marks


def telling(records, images="same", shift=0):
    return [replace(r, images=images, each=outcomes(r.right, shift)) for r in records]


def side(letter: str, records, **changes) -> ComparedRun:
    return ComparedRun(letter, f"runs/{letter.lower()}", RunData(info(**changes), list(records)))


@pytest.fixture
def alike():
    return [
        side("A", telling(defended_run()), command="suture evaluate a"),
        side("B", telling(defended_run(paper=160), shift=2), command="suture evaluate b", seed=7),
    ]


def sentences(a, b):
    return [(n.weight, n.sentence) for n in fairness(a, b)]


def test_the_same_images_are_counted_image_by_image(alike):
    row = next(r for r in compared_rows(alike) if r.group.startswith("Measured as the paper"))
    # A is right on images 0…153, B on 2…161: 152 shared.
    assert row.cells[0].right == (154,) and row.cells[1].right == (160,)
    assert row.changes == (3.0,)
    assert (row.pairs[0].both, row.pairs[0].first, row.pairs[0].second) == (152, 2, 8)
    assert row.pairs[0].neither == N - 162
    assert row.pairs[0].p == pytest.approx(2 * (1 + 10 + 45) / 2**10)


def test_one_image_more_or_less_is_said(alike):
    assert sentences(*alike)[-1] == ("fine", "Both measured the same 200 images.")
    assert comparable(fairness(*alike))
    # On clean images A is right on 0…193, B on 2…195.
    assert "disagree about 4 of 200" in sentences(*alike)[0][1]


@pytest.mark.parametrize(
    ("change", "weight", "said"),
    [
        ({"images": "others"}, "stop", "not the same ones"),
        ({"images": ""}, "mind", "is not known"),
        ({"data": "mnist", "images": "others"}, "stop", "The data differ"),
        ({"tier": "quick"}, "mind", "tried differently hard"),
        ({"seed": 8}, "mind", "The seeds differ (7, 8)"),
        ({"versions": {"torch": "2.0"}}, "mind", "torch 2.9.0 and 2.0"),
    ],
)
def test_what_does_not_compare_is_said_plainly(alike, change, weight, said):
    a, b = alike
    other = side("B", [replace(r, **change) for r in b.data.records])
    found = [(w, s) for w, s in sentences(a, other) if said in s]
    assert len(found) == 1 and found[0][0] == weight
    assert comparable(fairness(a, other)) == (weight != "stop")


def test_another_radius_or_budget_does_not_compare(alike):
    a, _ = alike
    far = [replace(r, threat=threat(0.3)) if r.attack else r for r in a.data.records]
    assert (
        "different threats (A: L∞, ε = 0.15, B: L∞, ε = 0.3)" in sentences(a, side("B", far))[0][1]
    )
    spent = {"name": "Square", "parameters": {"queries": 9}}
    more = [replace(r, attack=spent) if r.attack else r for r in a.data.records]
    assert "different attacks" in sentences(a, side("B", more))[0][1]
    assert not compared_rows([a, side("B", far)])[2:]  # clean rows alone are shared
    assert len(alone([a, side("B", far)])) == 6


def test_an_exact_mean_stands_beside_the_row_of_a_model_that_does_not_draw():
    one = record("defended", "PGD", 90, protocol="adaptive")
    exact = replace(one, draws="exact", expected=80.5, right=81)
    few = replace(one, draws=10, right=100)
    rows = compared_rows([side("A", [one]), side("B", [few, exact])])
    assert [row.cells[1].right for row in rows] == [(80.5,)]
    assert rows[0].names[1].endswith("exact mean") and rows[0].drawn


def test_settings_that_differ_come_first_and_are_marked():
    a = side("A", [], options={"eps": 0.1, "out": "a"}, command="x")
    b = side("B", [], options={"eps": 0.2, "out": "b", "n": 5}, command="y")
    told = settings([a, b])
    marked = [(row.name, row.values) for row in told if row.differs]
    assert marked == [("option eps", ("0.1", "0.2")), ("option n", ("—", "5"))]
    assert told[: len(marked)] == [row for row in told if row.differs]


def test_the_page_is_closed_and_its_csv_is_the_table(alike):
    page = render(alike)
    assert Outline(page).open == []
    assert "http://" not in page and "https://" not in page
    raw = re.search(
        r'download="comparison.csv" href="data:text/csv;charset=utf-8;base64,([^"]+)"', page
    )
    lines = list(csv.DictReader(io.StringIO(base64.b64decode(raw[1]).decode())))
    square = next(line for line in lines if line["group"].startswith("Measured as the paper"))
    assert (square["A %"], square["B %"], square["A/B only B"]) == ("77", "80", "8")


def test_three_runs_are_compared_with_the_first(alike):
    third = side("C", telling([clean("defended", 100), strongest("defended", 3)]))
    page = render([*alike, third])
    assert "A and C" in page and Outline(page).open == []
    assert len(compared_rows([*alike, third])[0].pairs) == 2


def test_hostile_text_stays_text(alike):
    hostile = HOSTILE.removesuffix("\ud800")
    records = [replace(r, data=hostile, model=hostile, defence=hostile) for r in defended_run()]
    page = render([alike[0], side("B", records, title=HOSTILE, command=hostile)])
    outline = Outline(page)
    assert "script" not in outline.tags
    assert not any(name.startswith("on") for name, _ in outline.attributes)


def test_runs_that_cannot_be_compared_are_refused(make_run, tmp_path):
    one = make_run(defended_run())
    with pytest.raises(ArgumentError, match="2 to 26 different runs"):
        opened([one])
    with pytest.raises(ArgumentError, match="different runs"):
        opened([one, one])
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "run.json").write_text(json.dumps(info(kind="repair")), encoding="utf-8")
    with pytest.raises(BundleError, match="a run of 'repair' that has measured nothing"):
        opened([one, empty])


def test_the_page_is_written_where_it_is_wanted(make_run, tmp_path):
    one = make_run(defended_run())
    one.rename(tmp_path / "one")
    two = make_run(defended_run(paper=100))
    target = write([tmp_path / "one", two], tmp_path / "deep" / "page.html")
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
