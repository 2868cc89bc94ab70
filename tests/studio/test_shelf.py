"""Which runs a shelf shows, and which names it opens."""

from __future__ import annotations

import json

import pytest

from suture.errors import ArgumentError
from suture.studio.shelf import RunShelf


@pytest.fixture
def shelf(tmp_path):
    for name in ("a", "b/c", "b/d", "x/y/z", "a/inner"):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        info = {"schema": 1, "kind": "audit", "title": name, "status": "finished", "created": name}
        (folder / "run.json").write_text(json.dumps(info), encoding="utf-8")
    (tmp_path / "run.json").write_text((folder / "run.json").read_text(), encoding="utf-8")
    return RunShelf(tmp_path / "runs")


def test_every_run_that_is_shown_is_found_and_no_other(shelf):
    names = {row["name"] for row in shelf.rows()}
    assert names == {"a", "b/c", "b/d"}
    assert all(shelf.name(shelf.find(name)) == name for name in names)
    others = ("", ".", "..", "b", "a/inner", "x/y/z", "../runs/a", "b/../a", "/etc", "a/", "./a")
    assert [name for name in others if shelf.find(name)] == []


def test_a_run_of_its_own_is_a_shelf_of_one(shelf):
    alone = RunShelf(shelf.folder / "a")
    assert [row["name"] for row in alone.rows()] == ["."]
    assert alone.find(".") is not None


def test_new_names_are_plain_and_free(shelf):
    assert shelf.place("new-1.b") == shelf.folder / "new-1.b"
    for name in ("", "a", ".x", "-x", "a/b", "../x", "x" * 200, "ä", "x\n"):
        with pytest.raises(ArgumentError):
            shelf.place(name)
