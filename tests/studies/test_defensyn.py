"""The DefEnSyn study on a handful of images: rows, tables beside the paper's, figures, notes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from suture import data
from suture.attacks import Pixle, Square
from suture.errors import ArgumentError
from suture.repairs.defensyn import DefendedClassifier, parse
from suture.rng import Stream
from suture.studies import Row, defensyn_sheets, study
from suture.studies.defensyn_backdoor import Poisoning, measure
from suture.studies.defensyn_measuring import Protocol, measured
from suture.studies.defensyn_settings import FULL, NONE, SETTINGS, VARIANTS, setting
from suture.studies.defensyn_sheets import spread
from tests.exact import ExactLinear, classified_batch


def row(variant: str, name: str = "mlp-linf", **fields: Any) -> Row:
    given = {"what": "defence", "setting": name, "variant": variant, "network": "net", "n": 100,
             "attack": repr(SETTINGS[name].attack), "clean": 95, "paper": [20], "eot": {},
             "strong": 20, "every": 20, "seconds_an_image": 1e-5, "lengths": []}  # fmt: skip
    return given | fields


def defended(**fields: Any) -> Row:
    given = {"clean": 94, "paper": [80, 90], "eot": {"1": 70, "10": 50, "50": 40}, "strong": 30,
             "every": 5, "alone": 25, "transferred": 60, "synthesis_seconds": 1.0, "kept": 30,
             "attack_seconds": 2.0, "disagreements": 0}  # fmt: skip
    return row(FULL, **(given | fields))


def test_table_two_has_both_protocols_and_the_papers_figures():
    sheets = defensyn_sheets.sheets([row(NONE), defended()])
    assert [sheet.title.split(":")[0] for sheet in sheets[:2]] == [
        "Table 2", "What is left when the attacker averages"]  # fmt: skip
    bare, repaired = sheets[0].rows
    assert bare[0] == "net, Square linf ε=0.1, 5000 queries"
    assert bare[3].startswith("20.0 %") and bare[-1].startswith("79.72, 7.69 (ConvNeXt")
    assert repaired[3].startswith("85.0 %") and "80, 90 of 100" in repaired[3]
    assert repaired[4].startswith("30.0 %") and repaired[5] == "1 + 2"
    assert "77.38" in repaired[-1]
    lower = defensyn_sheets.sheets([row(NONE), defended(eot={"1": 70, "10": 50, "50": 10})])
    assert lower[0].rows[1][4].startswith("10.0 %"), "whichever attacker leaves least"
    (line,) = sheets[1].rows
    assert [cell[:4] for cell in line[2:5]] == ["70.0", "50.0", "40.0"]


def test_notes_say_what_was_reached():
    notes = defensyn_sheets.notes([row(NONE), defended()])
    assert any("+65.0 points under the paper's" in n and "Aimed" not in n for n in notes)
    notes = defensyn_sheets.notes([row(NONE, paper=[70]), defended(clean=90)])
    (said,) = (n for n in notes if n.startswith("mlp-linf"))
    assert "+15.0 points" in said and "Aimed at +40" in said and "only 25.0 points" in said
    notes = defensyn_sheets.notes([row(NONE), defended(disagreements=3)])
    assert any("by 3" in n for n in notes)


def test_notes_compare_learned_with_uniform():
    lengths = [{"entropy_left": 3.0, "entropy_right": 3.0},
               {"entropy_left": 0.0, "entropy_right": 0.6931472}]  # fmt: skip
    uniform = row("Uniform-DefEnSyn", paper=[60])
    (said,) = (n for n in defensyn_sheets.notes([defended(lengths=lengths), uniform])
               if n.startswith("Learned"))  # fmt: skip
    assert "beat uniform" in said and "85.0 against 60.0" in said and "1.0 features" in said
    assert "2.0 read" in said
    notes = defensyn_sheets.notes([defended(lengths=[]), row("Uniform-DefEnSyn", paper=[86])])
    assert any("do not beat" in note for note in notes)


def test_repetitions_are_shown_with_their_spread():
    assert spread([7], 10).startswith("70.0 % [") and spread([7], 10).endswith("(7/10)")
    assert spread([6, 8], 10).startswith("70.0 % [26.2, 97.5]")


def test_variants_change_fields_that_exist_and_names_are_checked():
    from suture.repairs import DefEnSyn

    for fields in VARIANTS.values():
        DefEnSyn(**fields)
    assert setting("resnet20-linf").budgeted(500).queries == 62  # type: ignore[attr-defined]
    assert setting("fashion-pixle").budgeted(500) == Pixle()
    with pytest.raises(ArgumentError, match="did you mean"):
        study("defensyn-tables").with_settings({"settings": "mlp-lin"})


def test_a_deterministic_model_has_one_number():
    model = ExactLinear((1, 2, 2))
    batch = classified_batch(model, (1, 2, 2), n=8, seed=1)
    found = measured(model, batch, Square(eps=0.1, queries=5), Protocol(3), Stream(0), model)
    assert found["eot"] == {} and found["paper"] == [found["strong"]] == [found["every"]]
    assert found["n"] == 8 >= found["clean"] >= found["strong"]


def test_the_strongest_attacker_is_at_least_as_strong_as_each():
    base = ExactLinear((1, 2, 2))
    batch = classified_batch(base, (1, 2, 2), n=30, seed=1)
    programs = tuple(parse(t) for t in ("v0 = 0", "v1 = v1 * 2", "v2 = v3"))
    head = torch.nn.Linear(4, 4)
    with torch.no_grad():
        head.weight.copy_(base.weight)
        head.bias.copy_(base.bias)
    model = DefendedClassifier(torch.nn.Flatten(), head, programs, 4).eval()
    found = measured(model, batch, Square(eps=0.6, queries=60), Protocol(2, (1, 4), True),
                     Stream(0), model.undefended())  # fmt: skip
    assert len(found["paper"]) == 2 and set(found["eot"]) == {"1", "4"}
    assert found["every"] <= min(found["strong"], *found["paper"])
    assert {"alone", "transferred"} <= set(found)


@pytest.mark.slow
@pytest.mark.data
def test_every_cell_on_a_handful_of_images():
    if data.folder() is None:
        pytest.skip("needs the data folder: set SUTURE_DATA")
    made = study("defensyn-tables").with_settings(
        {"settings": "mlp-linf,fashion-l2", "n": "12", "samples": "12", "programs": "200",
         "queries": "8", "repeats": "1", "backdoor_train": "200", "backdoor_test": "100"}
    )  # fmt: skip
    wanted = ("mlp-linf", "fashion-l2-No", "backdoor", "features")
    rows = [
        r for cell in made.cells() if cell.key.startswith(wanted) for r in cell.measure(Stream(1))
    ]
    rows = json.loads(json.dumps(rows, allow_nan=False))
    titles = [sheet.title for sheet in made.sheets(rows)]
    assert [t[:7] for t in titles if t.startswith("Table")] == [f"Table {i}" for i in range(2, 7)]
    keys = [drawing.key for drawing in made.figures(rows)]
    assert {"k-mlp-linf", "samples", "length", "program-0", "changes-mlp-linf"} <= set(keys)
    assert any("Backdoor" in note for note in made.notes(rows))
    assert all(cell.measure.func.__module__.startswith("suture.") for cell in made.cells())  # type: ignore[attr-defined]


@pytest.mark.data
def test_the_backdoor_is_planted_and_followed_by_length():
    if data.folder() is None:
        pytest.skip("needs the data folder: set SUTURE_DATA")
    rows = measure(Poisoning("cnn", "fashion-mnist", 1500, 300, 100, 500), Stream(0))
    bare, first = rows[0], rows[1]
    assert bare["variant"] == NONE and bare["triggered"] < bare["clean"] - 50
    lengths = [r for r in rows if r["what"] == "backdoor length"]
    assert [r["length"] for r in lengths] == list(range(1, len(lengths) + 1))
    assert (lengths[-1]["clean"], lengths[-1]["triggered"]) == (first["clean"], first["triggered"])
