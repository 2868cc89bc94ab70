"""What the pages show, and what they say where something is wrong."""

from __future__ import annotations

import json
import re
import shutil
import time
from html import unescape
from html.parser import HTMLParser
from urllib.parse import urlencode

import pytest
import torch

from suture.data import load as load_data
from suture.engine import Run
from suture.loading import load
from suture.report.comparison import opened, render
from suture.rng import Stream

HERE = {"origin": "http://127.0.0.1:8877"}
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements are closed in order, every control has a label, every picture words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.labels, self.controls, self.inline = [], set(), [], []
        self.feed(text)
        assert self.open == []
        nameless = [c for c in self.controls if not c[1] and c[0] not in self.labels]
        assert nameless == [] and self.inline == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.inline += [name for name in given if name.startswith("on") or name == "style"]
        if tag == "label":
            self.labels.add(given.get("for"))
        wanted = tag in ("select", "textarea") or (
            tag == "input" and given.get("type") not in ("hidden",)
        )
        if wanted:
            named = "aria-label" in given or "label" in self.open
            self.controls.append((given.get("id"), named))
        if tag == "img":
            assert given["alt"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def get(client, studio, path: str, status: int = 200, **query: object) -> str:
    answer = client.get(f"{studio.base}/{path}?{urlencode(query, doseq=True)}")
    assert answer.status_code == status, answer.text
    return answer.text


def test_the_first_page_lists_what_suture_runs_lists(client, studio):
    page = get(client, studio, "")
    Page(page)
    for name in ("cnn", "programs", "one", "two"):
        assert f"run?run={name}" in page
    assert page.count('type="checkbox"') == 2  # of those with records


@pytest.mark.parametrize("name", ["cnn", "programs", "one"])
def test_a_run_says_what_it_is_and_how_far(client, studio, name):
    page = get(client, studio, "run", run=name)
    Page(page)
    assert "finished" in page and "suture " in page
    told = json.loads(get(client, studio, "progress", run=name))
    assert (told["status"], told["live"], told["log"]) == ("finished", False, "")


def test_a_report_is_rendered_anew_and_never_taken_from_the_folder(client, studio, runs):
    path = runs / "one" / "report.html"
    before = path.read_text(encoding="utf-8")
    try:
        path.write_text("<script>alert(1)</script>", encoding="utf-8")
        page = get(client, studio, "report", run="one")
    finally:
        path.write_text(before, encoding="utf-8")
    assert page == before and "alert(1)" not in page


@pytest.mark.parametrize("path", ["run", "report", "progress"])
@pytest.mark.parametrize("name", ["", "nothing", "../runs/one", "/etc", "one/../one"])
def test_only_listed_runs_are_opened(client, studio, path, name):
    assert "There is no run" in unescape(get(client, studio, path, 404, run=name))


def test_a_comparison_is_the_reports(client, studio, runs):
    page = get(client, studio, "compare", run=["one", "two"])
    Page(page)
    wanted = render(opened([runs / "one", runs / "two"]))
    rows = re.findall(r"only A \d+, only B \d+", wanted)
    assert rows and re.findall(r"only A \d+, only B \d+", page) == rows
    assert "The seeds differ (0, 1)" in page


def test_comparing_what_was_never_measured_is_answered(client, studio):
    assert "suture evaluate" in get(client, studio, "compare", 422, run=["one", "cnn"])
    Page(get(client, studio, "compare"))


def looked(client, studio, status: int = 200, **query: object) -> str:
    base = {"model": str(studio.model), "data": "digits", "images": "0-2", "eps": "0.2"}
    return get(client, studio, "look", status, **(base | query))


def test_an_image_before_and_after_with_the_program_that_answered(client, studio):
    page = looked(client, studio, images="3", attack="pgd", draw=5)
    Page(page)
    model = load(str(studio.model))
    batch = load_data("digits").test.batch(1, start=3)
    from suture.evaluate.rows import fresh_logits

    wanted = fresh_logits(model, batch.images, Stream(5)).softmax(1).max()
    clean = page.split("Clean, after the repair")[1].split("</ul>")[0]
    assert f'<span class="number">{wanted:.3f}</span>' in clean
    count = len(model.programs)
    assert len(re.findall(rf"program \d+ of {count}: ", page)) == 2
    assert "difference ×" in page and "L∞ 0.2" in page


def test_what_the_page_says_of_a_draw_is_the_draw_that_answered(client, studio):
    """The program that is named gives the logits that are shown."""
    page = looked(client, studio, images="7", attack="none", draw=2)
    model = load(str(studio.model))
    batch = load_data("digits").test.batch(1, start=7)
    said = page.split("Clean, after the repair")[1]
    index = int(re.search(r"program (\d+) of", said)[1])
    with torch.no_grad():
        logits = model.fixed(index)(batch.images)[0]
    shown = sorted(float(v) for v in re.findall(r"</th><td>(-?[\d.]+)</td>", said))
    assert shown == pytest.approx(sorted(logits.tolist()), abs=6e-4)


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "square", "deepfool", "none"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_attacks_are_made_live(client, studio, attack, side):
    norm = "l2" if attack == "deepfool" else "linf"
    page = looked(client, studio, attack=attack, side=side, norm=norm, eps="0.3", seconds=2)
    assert 'class="mistake"' not in page
    assert page.count("<h2>Image") == 3
    assert (f"made against the model {side} the repair" in page) == (attack != "none")


def test_an_attacker_who_knows_the_defence(client, studio):
    page = looked(client, studio, attack="pgd", side="after", knows=1)
    assert "by an attacker who knows the defence" in page and 'class="mistake"' not in page


def test_a_part_is_the_result_alone(client, studio):
    part = looked(client, studio, attack="fgsm", part=1)
    assert "<html" not in part and part.count("<h2>Image") == 3


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"images": "5-"}, "up to 12 positions"),
        ({"images": "0-99"}, "up to 12 positions"),
        ({"images": "9999999"}, "positions below"),
        ({"eps": "many"}, "'many'"),
        ({"eps": "25"}, "Grey levels are divided by 255"),
        ({"attack": "pdg"}, "did you mean pgd"),
        ({"attack": "square", "norm": "l0"}, "norm in"),
        ({"seconds": "1e9"}, "seconds as a number"),
        ({"draw": "-1"}, "draw as a number"),
        ({"model": "nowhere.onnx"}, "nowhere.onnx"),
        ({"model": "os:system"}, "trust"),
        ({"data": "mnits"}, "did you mean mnist"),
        ({"data": "<script>alert(1)</script>"}, "&lt;script&gt;"),
    ],
)
def test_wrong_input_is_answered_on_the_page(client, studio, query, said):
    page = looked(client, studio, **query)
    Page(page)
    told = page.split('class="mistake"')[1].split("</p>")[0]
    assert said in unescape(told) or said in told


def test_hostile_names_stay_text(client, studio):
    hostile = '"><script>alert(1)</script>'
    for path, query in (("look", {"model": hostile}), ("repair", {"model": hostile})):
        page = get(client, studio, path, **query)
        assert "<script>alert" not in page
        Page(page)
    assert "<script>alert" not in get(client, studio, "run", 404, run=hostile)


def ordered(client, studio, **form: str):
    base = {"model": str(studio.shelf.folder / "cnn"), "data": "digits", "method": "pgd-training"}
    return client.post(
        f"{studio.base}/repair", data=base | form, headers=HERE, follow_redirects=False
    )


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"name": "../x"}, "a run's name"),
        ({"name": ".hidden"}, "a run's name"),
        ({"name": "one"}, "a name that is not taken"),
        ({"name": "a", "method": "pgd-trainign"}, "did you mean pgd-training"),
        ({"name": "a", "eps": "x"}, "'x' for eps"),
        ({"name": "a", "method": "dare", "minutes": "3"}, "no limit of time"),
        ({"name": "a", "settings": "epochz=3"}, "epochz"),
        ({"name": "a", "settings": "no assignment"}, "--set field=value"),
    ],
)
def test_a_repair_that_makes_no_sense_is_not_begun(client, studio, form, said):
    answer = ordered(client, studio, **form)
    assert answer.status_code == 422
    Page(answer.text)
    assert said in unescape(answer.text.split('class="mistake"')[1].split("</p>")[0])
    assert "a" not in studio.jobs.jobs


def test_a_repair_that_ends_without_a_run_is_shown_as_failed(client, studio):
    answer = ordered(client, studio, name="idle", eps="8/255", minutes="2")
    assert answer.status_code == 303 and answer.headers["location"].endswith("/run?run=idle")
    limit = time.monotonic() + 20
    while studio.jobs.jobs["idle"].running and time.monotonic() < limit:
        time.sleep(0.05)
    told = json.loads(get(client, studio, "progress", run="idle"))
    assert (told["status"], told["live"]) == ("failed", False)
    Page(get(client, studio, "run", run="idle"))


def test_a_killed_run_offers_to_go_on(client, studio, runs):
    shutil.copytree(runs / "programs", runs / "broken")
    try:
        run = Run.open(runs / "broken")
        (run.folder / "run.json").write_text(json.dumps(run.info | {"status": "running"}))
        page = get(client, studio, "run", run="broken")
        assert "killed" in page and "Go on" in page
        done = get(client, studio, "run", run="programs")
        assert "Go on" not in done
    finally:
        shutil.rmtree(runs / "broken")
