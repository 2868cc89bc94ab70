"""The DARE study on digits: what its sheets say is what its rows hold."""

from __future__ import annotations

import json

import pytest
import torch

from suture.engine.threads import torch_threads
from suture.rng import Stream
from suture.studies import dare_paper, dare_sheets, study
from suture.studies.dare_methods import OURS
from suture.studies.dare_paper import ATTACKS
from suture.studies.dare_subject import AllSteps, prepared, transferred
from suture.testing.small import accuracy, digits, trained

SMALL = {
    "data": "digits", "networks": "digits_cnn", "images": "1200", "epochs": "4", "looked": "300",
    "adversarial": "40", "rates": "0.001", "tuning_epochs": "1", "q": "50", "autoattack": "0",
    "online": "no",
}  # fmt: skip


@pytest.fixture(scope="module")
def measured():
    with torch_threads(1):
        made = study("dare-tables").with_settings(SMALL)
        rows = [
            {"cell": cell.key, **row}
            for cell in made.cells()
            for row in cell.measure(Stream(0).child(cell.key))
        ]
        yield made, json.loads(json.dumps(rows, allow_nan=False))


def test_sheets_hold_what_was_measured(measured):
    made, rows = measured
    sheets = {sheet.title.split(":")[0]: sheet for sheet in made.sheets(rows)}
    table = sheets["Transferred adversarial images (Table 2)"]
    assert [row[0] for row in table.rows] == list(ATTACKS)
    for line in table.rows:
        counts = {r["name"]: r for r in rows if r.get("attack") == line[0]}
        assert counts["original"]["right"] == 0, "all of them fool the original"
        assert line[1] == str(counts[OURS]["n"])
        assert f"{100 * counts[OURS]['right'] / counts[OURS]['n']:.1f} [" in line[2]
        shown = dict(zip(table.header[2:8], line[2:8], strict=True))
        shares = {name: counts[name]["right"] / counts[name]["n"] for name in shown}
        best = max(shares.values())
        assert {n for n in shown if "★" in shown[n]} == {n for n in shown if shares[n] == best}
    clean = sheets["Clean accuracy (Table 3)"]
    assert [row[0] for row in clean.rows][:2] == ["original", OURS]
    assert len(sheets["Ablations (Table 4, Figure 3)"].rows) == 5
    assert [row[0] for row in sheets["Slicing more or less (Figure 4)"].rows] == ["50 %", "95 %"]
    assert "Adaptive attack" not in sheets
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
    plan = made._plan("digits_cnn")
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


def test_winners_and_ties():
    def row(name, attack, right):
        return {"what": "transferred", "name": name, "attack": attack, "right": right, "n": 10}

    rows = [
        row("DARE", "BIM", 4),
        row("BIM", "BIM", 4),
        row("DARE", "PGD", 5),
        row("BIM", "PGD", 3),
    ]
    best = dare_sheets.winners(rows, ("DARE", "BIM"))
    assert best["BIM"] == ["DARE", "BIM"] and best["PGD"] == ["DARE"] and best["FGSM"] == []


def test_a_method_beyond_the_limit_is_named():
    rows = [{"what": "method", "name": name, "status": status}
            for name, status in (("BIM", "beyond_limit"), ("PGD", "tuned"))]  # fmt: skip
    (note,) = [n for n in dare_sheets.notes({"net": rows}) if "within the limit;" in n]
    assert "of BIM keeps" in note


def test_the_papers_figures():
    assert dare_paper.robustness("cifar10", "C&W", "DARE") == 92.3
    assert dare_paper.robustness("fashion-mnist", "JSMA", "JSMA") == 86.6
    assert dare_paper.accuracy("cifar10", "original") == 88.7
    assert dare_paper.minutes("cifar10", "C&W") == "3439 + 51"
    assert dare_paper.minutes("cifar10", "DARE") == "160 + 140 + 40"
    assert dare_paper.robustness("digits", "BIM", "DARE") is None


def test_what_is_left_of_dare_stands_beside_the_original():
    rows = [
        {
            "what": "adaptive",
            "name": name,
            "n": 100,
            "clean_right": 87,
            "autoattack": auto,
            "right": right,
            "seconds": 1.0,
            "tries": [],
        }
        for name, auto, right in (("original", 1, 0), ("DARE", 3, 2))
    ]
    (sheet,) = dare_sheets.sheets("net", rows, "fashion-mnist")
    assert sheet.title == "What is left before an attacker who has the model: net"
    assert [line[2].split(" ")[0] for line in sheet.rows] == ["1.0", "3.0"]
    assert [line[3].split(" ")[0] for line in sheet.rows] == ["0.0", "2.0"]
    (note,) = [n for n in dare_sheets.notes({"net": rows}) if "who has the tuned" in n]
    assert "leaves 2.0 %" in note and "nothing of the gain" in note
