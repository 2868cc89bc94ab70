"""Titles, downloads, remarks beside rows, and which queries a figure counts."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from suture import report
from suture.report import RunData
from suture.report.about import about
from suture.report.cells import measure
from suture.report.downloads import csv_text, numbers_uri
from suture.report.figures import Drawing
from suture.report.figures.lines import query_figures
from suture.report.tables import accuracy_rows

from .builders import defended_run, full_run, info, record, spent, strongest, threat
from .test_page import Outline


@pytest.fixture
def page(make_run) -> str:
    return report.write(make_run(full_run(), artifacts=True)).read_text(encoding="utf-8")


def test_a_title_names_model_method_data_and_threat(page):
    records = [replace(r, model="runs/cnn", data="/data/mnist.npz") for r in defended_run()]
    told = dict(about(RunData(info(parts={}), records)))
    assert told == {
        "Model": "cnn",
        "Method": "DefEnSyn",
        "Data": "mnist.npz",
        "Threat": "L∞, ε = 0.15",
    }
    assert "· DefEnSyn ·" in re.search("<title>(.*?)</title>", page)[1]


@pytest.mark.parametrize("strange", [{"parts": [1]}, {"options": "x"}, {"threat": {"eps": []}}])
def test_a_title_survives_any_run_json(strange):
    assert about(RunData(info(**strange), [])) is not None


def test_every_figure_can_be_saved_as_a_picture_and_as_numbers(page):
    links = dict(re.findall(r'<a download="([^"]+)" href="([^"]+)"', page))
    keys = re.findall(r'<figure id="figure-([^"]+)"', page)
    assert {f"{key}{end}" for key in keys for end in (".svg", ".csv")} <= set(links)
    assert "results.csv" in links
    for name, link in links.items():
        raw = base64.b64decode(link.partition("base64,")[2]).decode()
        if name.endswith(".svg"):
            assert ET.fromstring(raw).tag == "{http://www.w3.org/2000/svg}svg"
        else:
            assert raw.count("\r\n") > 1


def test_a_spreadsheet_is_given_no_formula():
    text = csv_text(("a",), [("=HYPERLINK(1)",), ("@x",), ("-1.5",), ("+x",), ('say "a,b"',)])
    assert text.split("\r\n")[1:-1] == ["'=HYPERLINK(1)", "'@x", "-1.5", "'+x", '"say ""a,b"""']


def test_numbers_of_a_figure_are_plain():
    figure = Drawing(
        "k", "t", "c", "a", "<svg/>", ("", "Queries", "Accuracy", "Change"),
        (("one", "1\u202f000", "77.0\u202f%", "−1.5"), ("two", "20", "—", "a − b")),
    )  # fmt: skip
    raw = base64.b64decode(numbers_uri(figure).partition("base64,")[2]).decode()
    assert raw.split("\r\n")[:-1] == [
        ',Queries,"Accuracy, %",Change',
        "one,1000,77.0,-1.5",
        "two,20,,a − b",
    ]


def asides(records):
    return {row.name: row.aside for row in accuracy_rows(records) if row.aside}


def test_the_strongest_row_says_what_it_sums_up():
    rows = [*defended_run(), strongest("defended", 31, tags={"candidates": 5})]
    told = asides(rows)["strongest attack per image"]
    assert told == "per image the worst of 5 attacks, so at or below each of them"


@pytest.mark.parametrize(
    ("lower", "why"),
    [
        ({"threat": threat(0.3)}, "its radius is larger"),
        ({"threat": {"norm": "l2", "eps": 0.15}}, "its norm is another"),
        ({"kind": "program", "program": 0}, "one program alone"),
        ({}, "drawn once an image"),
    ],
)
def test_a_row_below_the_strongest_is_explained_where_it_stands(lower, why):
    row = record("defended", "PGD", 20, protocol="adaptive", **lower)
    told = asides([*defended_run(), strongest("defended", 31), row])["strongest attack per image"]
    assert f"“{measure([row])[0].first.row}” is lower" in told and why in told


@pytest.mark.parametrize(
    ("name", "knowledge", "asks"),
    [
        ("Square", "black-box", "score queries"),
        ("PGD", "white-box", "gradient queries"),
        ("HopSkipJump", "black-box", "decision queries"),
    ],
)
def test_a_figure_says_what_a_query_tells(name, knowledge, asks):
    own = {"norm": "linf", "eps": 0.15, "knowledge": knowledge}
    row = record("undefended", name, 4, threat=own, queries=spent(4, 6))
    (figure,) = query_figures([row])
    assert figure.title.startswith(f"Accuracy against {asks}: {name}")
    assert "do not read it against" in figure.caption


def test_long_parts_fold_and_links_lead_into_them(page):
    outline = Outline(page)
    folds = re.findall(r'<details class="fold">', page)
    assert len(folds) == 5
    wanted = {"in-figures", "in-examples", "in-programs", "in-reading", "in-provenance"}
    assert wanted <= set(outline.ids)
    assert wanted <= {v[1:] for n, v in outline.attributes if n == "href" and v.startswith("#")}
