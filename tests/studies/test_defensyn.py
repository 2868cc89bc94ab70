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
from suture.testing.exact import ExactLinear, classified_batch


def left(right: float, **ways: float) -> Row:
    tries = [{"attack": "PGD", "way": "white-box", "right": right, "decisive": 7, "seconds": 1.0}]
    return {"n": 50, "clean": 48.0, "right": right, "every": 1, "tries": tries} | ways


def row(variant: str, name: str = "mlp-linf", **fields: Any) -> Row:
    given = {
        "what": "defence",
        "setting": name,
        "variant": variant,
        "network": "net",
        "n": 100,
        "attack": repr(SETTINGS[name].attack),
        "clean": 95,
        "paper": [20],
        "tier": "quick",
        "left": left(10.0, white_box=10.0, black_box=12.0),
        "seconds_an_image": 1e-5,
        "lengths": [],
    }
    return given | fields


def defended(**fields: Any) -> Row:
    ways = {"white_box": 11.5, "black_box": 14.3, "transferred": 13.0}
    given = {
        "clean": 94,
        "paper": [80, 90],
        "left": left(10.8, **ways),
        "kept": 30,
        "synthesis_seconds": 1.0,
        "attack_seconds": 2.0,
        "disagreements": 0,
    }
    return row(FULL, **(given | fields))


def test_table_two_has_both_protocols_and_the_papers_figures():
    sheets = defensyn_sheets.sheets([row(NONE), defended()])
    assert [sheet.title.split(":")[0] for sheet in sheets[:2]] == [
        "Table 2",
        "What is left before an attacker who knows the programs",
    ]
    bare, repaired = sheets[0].rows
    assert bare[0] == "net, Square linf ε=0.1, 5000 queries"
    assert bare[3].startswith("20.0 %") and bare[-1].startswith("79.72, 7.69 (ConvNeXt")
    assert repaired[3].startswith("85.0 %") and "80, 90 of 100" in repaired[3]
    assert repaired[4].startswith("21.6 %") and repaired[5] == "1 + 2"
    assert "77.38" in repaired[-1]


def test_what_is_left_stands_beside_what_is_left_of_the_undefended():
    _, sheet = defensyn_sheets.sheets([row(NONE), defended()])[:2]
    bare, repaired = sheet.rows
    assert [cell.split(" ")[0] for cell in bare[2:8]] == [
        "96.0",
        "24.0",
        "20.0",
        "–",
        "20.0",
        "2.0",
    ]
    assert [cell.split(" ")[0] for cell in repaired[2:8]] == [
        "96.0",
        "28.6",
        "23.0",
        "26.0",
        "21.6",
        "2.0",
    ]
    assert repaired[6].endswith("(10.8/50)") and repaired[8] == "PGD (7)"


def test_notes_say_what_is_left_of_the_gain():
    notes = defensyn_sheets.notes([row(NONE), defended()])
    (said,) = (n for n in notes if n.startswith("mlp-linf"))
    assert "+65.0 points under the paper's" in said and "Aimed" not in said
    assert "+1.6 of them are left" in said and "21.6 against 20.0 % of 50 images" in said
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


def test_a_deterministic_model_is_attacked_once():
    model = ExactLinear((1, 2, 2))
    batch = classified_batch(model, (1, 2, 2), n=8, seed=1)
    protocol = Protocol(3, attacked=5, tier="quick")
    found, kept = measured(model, batch, Square(eps=0.1, queries=5), protocol, Stream(0))
    assert len(found["paper"]) == 1 and found["n"] == 8 >= found["clean"]
    assert found["left"]["n"] == 5 >= found["left"]["clean"] >= found["left"]["right"]
    assert found["left"]["every"] == found["left"]["right"] == float(kept.share.sum())


def test_who_knows_the_programs_leaves_less_than_the_paper():
    base = ExactLinear((1, 2, 2))
    batch = classified_batch(base, (1, 2, 2), n=30, seed=1)
    programs = tuple(parse(t) for t in ("v0 = 0", "v1 = v1 * 2", "v2 = v3"))
    head = torch.nn.Linear(4, 4)
    with torch.no_grad():
        head.weight.copy_(base.weight)
        head.bias.copy_(base.bias)
    model = DefendedClassifier(torch.nn.Flatten(), head, programs, 4).eval()
    attack, protocol = Square(eps=0.6, queries=60), Protocol(2, attacked=30, tier="quick")
    _, bare = measured(model.undefended(), batch, attack, protocol, Stream(0))
    found, _ = measured(model, batch, attack, protocol, Stream(0), (model.undefended(), bare))
    left = found["left"]
    assert len(found["paper"]) == 2
    assert left["every"] <= left["right"] <= min(found["paper"]) <= found["clean"]
    assert left["right"] <= min(left[way] for way in ("white_box", "black_box", "transferred"))
    assert json.loads(json.dumps(left, allow_nan=False)) == left


@pytest.mark.slow
@pytest.mark.data
def test_every_cell_on_a_handful_of_images():
    if data.folder() is None:
        pytest.skip("needs the data folder: set SUTURE_DATA")
    made = study("defensyn-tables").with_settings(
        {"settings": "mlp-linf,fashion-l2", "n": "12", "samples": "12", "programs": "200",
         "queries": "8", "repeats": "1", "attacked": "6", "tier": "quick",
         "backdoor_train": "200", "backdoor_test": "100"}
    )  # fmt: skip
    wanted = ("mlp-linf", "fashion-l2-No", "backdoor", "features")
    # Random is left out: each query of its attacker is 50 draws.
    cells = [cell for cell in made.cells() if not cell.key.endswith("-Random")]
    rows = [r for cell in cells if cell.key.startswith(wanted) for r in cell.measure(Stream(1))]
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
