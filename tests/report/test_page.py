"""The page: complete, self-contained, deterministic, safe, and whole or not at all."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from suture import report
from suture.errors import BundleError, StorageError
from suture.report import RunData

from .builders import clean, defended_run, full_run, info, record

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\ud800"
ALLOWED = (
    "data:image/png;base64,",
    "data:image/svg+xml;base64,",
    "data:text/csv;charset=utf-8;base64,",
    "#",
)
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Outline(HTMLParser):
    """Collects what the checks need, and that every element is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids, self.tags, self.open, self.attributes = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def page(make_run) -> str:
    return report.write(make_run(full_run(), artifacts=True)).read_text(encoding="utf-8")


def test_the_full_page_holds_every_part(page):
    for part in ("results", "figures", "examples", "programs", "reading", "provenance"):
        assert f'<section id="{part}"' in page
    for figure in ("radius-linf-square", "queries-linf-square", "classes", "trace"):
        assert f'id="figure-{figure}"' in page
    assert "suture demo --seed 7 --out runs/demo" in page
    assert "DefEnSyn(k=30, lambda_=1.0, lengths=10)" in page
    assert "⚠ sanity check failed" in page
    assert "With no limit on the change" in page


def test_elements_are_closed_ids_unique_headings_in_order(page):
    outline = Outline(page)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    levels = [int(tag[1]) for tag in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_references_inside_the_page_have_targets(page):
    outline = Outline(page)
    wanted = re.findall(r'href="#([^"]+)"|url\(#([^)"]+)\)', page)
    assert len(wanted) > 10
    assert {a or b for a, b in wanted} <= set(outline.ids)


def test_nothing_is_fetched_from_anywhere(page):
    assert "http://" not in page
    assert "https://" not in page
    for name, value in Outline(page).attributes:
        if name in ("src", "href", "xlink:href"):
            assert value.startswith(ALLOWED)
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_the_same_run_gives_the_same_bytes(make_run):
    folder = make_run(full_run(), artifacts=True)
    first = report.write(folder).read_bytes()
    assert report.write(folder).read_bytes() == first


def test_hostile_text_stays_text(make_run):
    hostile = HOSTILE.removesuffix("\ud800")
    records = [
        record("undefended", hostile, 4, per_class=[[1, 2]], queries=[0, 3, None]),
        record("defended", hostile, 9, per_class=[[1, 2]], queries=[4], warnings=[hostile]),
        record("defended", hostile, 9, protocol="adaptive", through=hostile, tags={"a": hostile}),
    ]
    changes = {"title": HOSTILE, "command": hostile, "parts": {hostile: hostile}, "kind": hostile}
    page = report.write(make_run(records, artifacts=True, **changes)).read_text(encoding="utf-8")
    outline = Outline(page)
    assert outline.tags.count("script") == 1
    assert not any(name.startswith("on") for name, _ in outline.attributes)
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page


def test_embedded_records_are_the_records(page):
    raw = re.search(r'<script type="application/json" id="records">(.*?)</script>', page)[1]
    embedded = json.loads(raw)
    assert len(embedded) == len(full_run())
    assert embedded[3]["right"] == 154
    assert len(embedded[3]["queries"]) == 200
    assert "inf" in {r["threat"].get("eps") for r in embedded}


def test_an_audit_has_no_defended_column(make_run):
    records = [r for r in full_run() if r.role == "undefended"]
    page = report.write(make_run(records)).read_text(encoding="utf-8")
    assert '<th scope="col">Accuracy</th>' in page
    assert '<th scope="col">Defended</th>' not in page
    assert 'id="examples"' not in page
    assert 'id="programs"' not in page
    assert 'id="figure-trace"' not in page
    assert "knows the defence" not in page


@pytest.mark.parametrize("records", [[], [clean("defended", 191)], defended_run()[:3]])
def test_any_subset_renders(records):
    page = report.render(RunData(info={"schema": 1}, records=records))
    assert Outline(page).open == []
    assert "Untitled run" in page
    assert "—" in page


def test_many_single_programs_are_folded_away():
    alone = [
        record("defended", "PGD", 20 + i, protocol="adaptive", kind="program", program=i)
        for i in range(6)
    ]
    page = report.render(RunData(info(), [*defended_run(), *alone]))
    table, folded = page.split("Each program on its own (6 rows)")
    assert "program 3" not in table.split('<section id="results"')[1]
    assert "program 3" in folded


def test_an_unfinished_run_says_so():
    assert "Run not finished" in report.render(RunData(info(status="running")))
    assert "Run not finished" not in report.render(RunData(info()))


def test_a_failed_write_leaves_nothing_behind_and_the_old_page_whole(make_run, monkeypatch):
    folder = make_run(defended_run())
    target = report.write(folder)
    before, names = target.read_bytes(), sorted(folder.iterdir())
    (folder / "records.jsonl").write_text("", encoding="utf-8")

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        report.write(folder)
    assert target.read_bytes() == before
    assert sorted(folder.iterdir()) == names


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"run\.json"):
        report.write(tmp_path / "nowhere")


@pytest.mark.parametrize("noted", [["Attacks come before.", 3], "no list", {"a": "b"}])
def test_what_the_run_notes_stands_beside_the_verdict(noted):
    page = report.render(RunData(info() | {"notes": noted}))
    assert ('<p class="note">Attacks come before.</p>' in page) == isinstance(noted, list)
    assert ">no list<" not in page and ">3<" not in page
