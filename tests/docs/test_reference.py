"""The generated pages are what the generators write, and miss nothing."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from suture.models import architectures
from suture.models.onnx_import import supported

from .pages import DOCS


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATORS = ("generate_attacks", "generate_commands", "generate_methods", "generate_speed")


@pytest.mark.parametrize("name", GENERATORS)
def test_generated_page_is_current(name: str):
    made = script(name)
    assert made.PAGE.read_text(encoding="utf-8") == made.page(), f"run: python docs/{name}.py"


def test_every_command_and_option_is_there():
    reference = script("generate_commands")
    text = reference.PAGE.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (suture[^\n]*)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.M))
    found = dict(reference.commands())
    assert {"suture demo", "suture data list", "suture evaluate"} <= set(found)
    for command, parts in found.items():
        for parameter in parts.params:
            names = [*parameter.opts, *parameter.secondary_opts]
            shown = names if parameter.param_type_name == "option" else [parameter.name.upper()]
            for name in shown:
                assert f"`{name}`" in sections[command], f"{name} of {command}"


def test_architectures_and_operators_are_listed():
    page = (DOCS / "models.md").read_text(encoding="utf-8")
    for name in architectures():
        assert f"`{name}`" in page, name
    listed = re.search(r"<!-- operators:begin -->(.*?)<!-- operators:end -->", page, re.DOTALL)
    assert listed is not None
    assert tuple(re.findall(r"\w+", listed[1])) == supported()


def test_generators_write_beside_themselves():
    assert {script(name).PAGE.parent for name in GENERATORS} == {Path(DOCS)}


def test_every_record_stands_on_the_page_of_speeds():
    speed = script("generate_speed")
    kept = sorted(path.stem for path in speed.RECORDS.glob("*.json"))
    assert kept == sorted(speed.WHAT)
    text = speed.PAGE.read_text(encoding="utf-8")
    assert all(f"## {name}\n" in text for name in kept)
