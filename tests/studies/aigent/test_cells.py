"""The AIGENT studies on a handful of inputs: rows that hold what the sheets say."""

from __future__ import annotations

import json

import pytest
import torch

from suture import data
from suture.data.dataset import Split
from suture.rng import Stream
from suture.studies import STUDIES
from suture.studies.aigent.measuring import first_of_each, judged
from suture.studies.aigent.pictures import pictures
from suture.studies.aigent.transfer import _even
from suture.testing.small import digits, trained
from suture.types import Batch


def measured(name: str, **given: str):
    made = STUDIES[name]().with_settings(given)
    rows = [row for cell in made.cells() for row in cell.measure(Stream(1).child(cell.key))]
    return made, json.loads(json.dumps(rows, allow_nan=False))


@pytest.mark.data
def test_table_one_on_ten_images():
    if data.folder() is None:
        pytest.skip("needs the data folder: set SUTURE_DATA")
    made, rows = measured(
        "aigent-mnist", per_class="1", only="AIGENT,FGSM", networks="aigent_mnist_mlp8x16"
    )
    assert [row["what"] for row in rows] == ["AIGENT", "patches alone", "FGSM"]
    ours, alone, fgsm = rows
    assert ours["n"] + ours["wrong"] == 10 and ours["inside"]
    assert ours["found"] == ours["claimed"] >= 0.9 * ours["n"]
    assert alone["found"] <= ours["found"] and ours["pixels_median"] <= 24
    assert fgsm["linf_max"] == pytest.approx(0.1, abs=1e-4)
    table, patches = made.tables(rows)
    assert table.cells[0][0] == "AIGENT" and "91.4 %" in table.cells[0][-1]
    assert alone["chains_met"] == alone["patched_errs"] == alone["chains"] == alone["n"]
    assert patches.cells[0][0] == "patches alone" and "2: " in patches.cells[0][-2]
    (drawing,) = made.figures(rows)
    assert drawing.svg.startswith("<svg") and len(drawing.rows) == min(5, ours["found"])
    assert made.notes(rows) == [] or "left out" in made.notes(rows)[0]


@pytest.mark.data
def test_fashion_on_ten_images_has_no_figure_of_the_papers():
    if data.folder() is None:
        pytest.skip("needs the data folder: set SUTURE_DATA")
    made, rows = measured(
        "aigent-fashion", per_class="1", only="FGSM,PGD", networks="abcrown_homework_fashion_cnn"
    )
    assert [row["what"] for row in rows] == ["FGSM", "PGD"]
    assert all(row["n"] + row["wrong"] == 10 and row["found"] <= row["n"] for row in rows)
    assert rows[0]["linf_max"] == pytest.approx(0.1, abs=1e-4)
    (table,) = made.tables(rows)
    assert [row[-1] for row in table.cells] == ["—", "—"]


@pytest.mark.data
def test_table_three_on_one_network():
    if data.folder() is None:
        pytest.skip("needs the data folder: set SUTURE_DATA")
    made, rows = measured("aigent-layers", networks="2_9", points="1")
    assert [(row["size"], row["layer"]) for row in rows] == [
        (size, layer) for size in ("l1", "linf") for layer in range(1, 8)
    ]
    last = {row["size"]: row for row in rows if row["layer"] == 7}
    assert last["l1"]["total"] == pytest.approx(last["l1"]["closed_sum"], rel=1e-3)
    assert last["linf"]["largest"] == pytest.approx(last["linf"]["closed_largest"], rel=1e-3)
    assert all(row["right"] == 1 for row in rows if row["solved"])
    assert not any("ALARM" in note for note in made.notes(rows))
    assert [table.cells[-1][0] for table in made.tables(rows)] == ["closed form, last"] * 2


def test_the_first_of_each_class():
    split: Split = digits().test
    batch = first_of_each(split, 3)
    assert batch.labels.bincount().tolist() == [3] * 10
    whole = split.batch()
    zeros = (whole.labels == 0).nonzero()[:3, 0]
    assert torch.equal(batch.images[batch.labels == 0], whole.images[zeros])


def test_only_images_that_fool_the_model_are_counted():
    batch, model = digits().test.batch(20), trained()
    with torch.no_grad():
        labels = model(batch.images).argmax(1)
    clean = Batch(batch.images, labels)
    changed = batch.images.clone()
    changed[:10] = batch.images[torch.arange(10) + 10]
    facts = judged(model, clean, changed)
    with torch.no_grad():
        assert facts["found"] == int((model(changed).argmax(1) != labels).sum()) > 2
    assert facts["inside"] and facts["pixels_max"] <= 64
    assert judged(model, clean, batch.images) == {"found": 0, "inside": True}
    assert not judged(model, clean, changed + 1)["inside"]


def test_no_pictures_without_images():
    assert pictures("x", [{"what": "AIGENT", "found": 0}]) is None


def test_every_attack_gives_as_many_images_to_the_hardening():
    batch = digits().test.batch(12)
    assert [len(p) for p in _even([batch, batch[:7], batch[:5], batch])] == [12, 5, 5, 5]
