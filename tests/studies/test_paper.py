"""The papers' printed numbers: every file is whole, in the package, and has a table to each row."""

from __future__ import annotations

import tomllib
from importlib.resources import files

import pytest

from suture.studies import STUDIES
from suture.studies.paper import printed

SYSTEMS = ("a5", "advrepair", "aigent", "dare", "defensyn")


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_number_has_a_table_and_a_row(system: str):
    paper = printed(system)
    assert paper.citation and paper.blocks
    for rows in paper.blocks.values():
        for keys, row in rows.items():
            assert keys and row["table"].startswith("Table ") and len(row) > 1
    text = files("suture.studies").joinpath(system, "paper.toml").read_text(encoding="utf-8")
    for name, blocks in tomllib.loads(text).items():
        if name != "citation":  # no row hides another
            assert sum(len(block["rows"]) for block in blocks) == len(paper.blocks[name])


def test_a_row_that_the_paper_lacks():
    paper = printed("dare")
    assert paper.row("accuracy", "vgg16", "mnist") is None
    assert paper.number("accuracy", "vgg16", "mnist", column="DARE") is None
    assert paper.number("accuracy", "vgg16", "cifar10", column="TRADES") is None
    assert paper.row("accuracy", "vgg16", "cifar10") == {
        "table": "Table 3", "original": 88.7, "DARE": 88.9, "BIM": 87.6, "C&W": 88.8,
        "FGSM": 87.4, "JSMA": 88.5, "PGD": 88.3,
    }  # fmt: skip


def test_studies_name_their_papers():
    for name, kind in STUDIES.items():
        study = kind()
        assert study.name == name and study.title and study.paper
        system = name.split("-")[0]
        assert system not in SYSTEMS or study.paper.startswith(printed(system).citation)
