"""The DARE study on digits: what its tables say is what its rows hold."""

from __future__ import annotations

import json

import pytest
import torch

from suture.engine.threads import torch_threads
from suture.rng import Stream
from suture.studies import STUDIES
from suture.studies.dare.methods import OURS
from suture.studies.dare.subject import ATTACKS, AllSteps, DarePlan, prepared, transferred
from suture.testing.small import accuracy, digits, trained

SMALL = {
    "data": "digits", "networks": "digits_cnn", "images": "1200", "epochs": "4", "looked": "300",
    "adversarial": "40", "rates": "0.001", "tuning_epochs": "1", "q": "50", "autoattack": "0",
    "online": "no",
}  # fmt: skip


@pytest.fixture(scope="module")
def measured():
    with torch_threads(1):
        made = STUDIES["dare-tables"]().with_settings(SMALL)
        rows = [
            {"cell": cell.key, **row}
            for cell in made.cells()
            for row in cell.measure(Stream(0).child(cell.key))
        ]
        yield made, json.loads(json.dumps(rows, allow_nan=False))


def test_tables_hold_what_was_measured(measured):
    made, rows = measured
    tables = {table.title.split(":")[0]: table for table in made.tables(rows)}
    table = tables["Transferred adversarial images (Table 2)"]
    assert [row[0] for row in table.cells] == list(ATTACKS)
    for line in table.cells:
        counts = {r["name"]: r for r in rows if r.get("attack") == line[0]}
        assert counts["original"]["right"] == 0, "all of them fool the original"
        assert line[1] == str(counts[OURS]["n"])
        assert f"{100 * counts[OURS]['right'] / counts[OURS]['n']:.1f} [" in line[2]
        shown = dict(zip(table.header[2:8], line[2:8], strict=True))
        shares = {name: counts[name]["right"] / counts[name]["n"] for name in shown}
        best = max(shares.values())
        assert {n for n in shown if "★" in shown[n]} == {n for n in shown if shares[n] == best}
    clean = tables["Clean accuracy (Table 3)"]
    assert [row[0] for row in clean.cells][:2] == ["original", OURS]
    assert len(tables["Ablations (Table 4, Figure 3)"].cells) == 5
    assert [row[0] for row in tables["Slicing more or less (Figure 4)"].cells] == ["50 %", "95 %"]
    assert "Adaptive attack" not in tables
    assert any("paper counts 29 of 45" in note for note in made.notes(rows))
    assert made.figures([]) == []


def test_all_methods_get_the_same_images(measured):
    _, rows = measured
    own = [r for r in rows if r["what"] == "method" and "before" in r]
    assert len({r["before"]["accuracy"] for r in own}) == 1
    assert {r["looked"] for r in own} == {225}
    assert all("history='history'" in r["method"] for r in own if r["method"].startswith("DARE"))


def test_transferred_images_fool_the_subject(measured):
    made, _ = measured
    plan = DarePlan(made, "digits_cnn")
    subject = prepared(plan)
    assert accuracy(subject.model, subject.dataset.test) > 0.7
    for name in ATTACKS:
        batch = transferred(plan, name).batch
        with torch.no_grad():
            assert not bool((subject.model(batch.images).argmax(1) == batch.labels).any())
    looked = {tuple(i.flatten().tolist()) for i in subject.looked.images}
    training = prepared(plan).dataset.train.batch()
    assert not any(tuple(i.flatten().tolist()) in looked for i in training.images)


def test_every_step_is_taken():
    batch = digits().test.batch(40)
    attack = AllSteps(eps=0.1, steps=6)
    found = attack(trained(), batch, generator=0)
    assert set(found.queries[found.clean_right].tolist()) == {6}
    assert float((found.images - batch.images).abs().max()) <= 0.1 + 1e-6
