"""The Python reference names all that the packages export; the house is drawn as it stands."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

import suture

from .pages import DOCS, ROOT
from .test_reference import script

PYTHON = script("generate_python")
HOUSE = script("generate_house")
WRITTEN = PYTHON.pages()


@pytest.mark.parametrize("file", WRITTEN, ids=lambda file: file.name)
def test_page_is_current(file: Path):
    assert file.read_text(encoding="utf-8") == WRITTEN[file], "run: python docs/generate_python.py"


def test_no_page_is_left_over():
    assert set(PYTHON.FOLDER.iterdir()) == set(WRITTEN)


@pytest.mark.parametrize("room", PYTHON.ROOMS)
def test_every_public_name_is_there_and_says_what_it_is(room: str):
    module = import_module(f"suture.{room}")
    names = getattr(module, "__all__", None) or PYTHON.public(module)
    listed = re.findall(
        rf"^::: suture\.{room}\.(\w+)$", WRITTEN[DOCS / "python" / f"{room}.md"], re.M
    )
    assert sorted(names) == sorted(listed)
    assert [name for name in names if not PYTHON.documented(module, name)] == []


def test_every_package_that_exports_has_a_page():
    exporting = {
        path.parent.name
        for path in (ROOT / "src" / "suture").glob("*/__init__.py")
        if "__all__" in path.read_text(encoding="utf-8")
    }
    assert exporting - {"cli"} <= set(PYTHON.ROOMS)  # commands have their own page


def test_what_suture_gives_leads_to_its_page():
    text = WRITTEN[DOCS / "python" / "suture.md"]
    wanted = {name for name in dir(suture) if not name.startswith("_")}
    assert (
        set(re.findall(r"^\| `suture\.(\w+)` \| [^|\s].* \| \[suture\.\w+\]", text, re.M)) == wanted
    )


def test_a_missing_docstring_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "made_up.py").write_text('A = 1\n"""One."""\nB = 2\nfrom re import compile as C\n')
    monkeypatch.syspath_prepend(tmp_path)
    module = import_module("made_up")
    assert PYTHON.documented(module, "A") == "One." and PYTHON.documented(module, "B") == ""
    assert PYTHON.documented(module, "C").startswith("Compile")


def test_the_picture_of_the_packages_is_current():
    drawn = HOUSE.PICTURE.read_text(encoding="utf-8")
    assert drawn == HOUSE.picture(), "run: python docs/generate_house.py"


def test_the_picture_shows_every_package_once():
    from tests.test_layering import ORDER

    assert re.findall(r'<text class="name"[^>]*>(\w+)<', HOUSE.picture()) == ORDER
    assert "certify imports bounds" in HOUSE.picture()
    assert all(HOUSE.sentence(name) for name in ORDER)
