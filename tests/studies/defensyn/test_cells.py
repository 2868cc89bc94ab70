"""The DefEnSyn study on a handful of images: rows, tables beside the paper's, figures, notes."""

from __future__ import annotations

import json

import pytest
import torch

from suture import data
from suture.attacks import Pixle, Square
from suture.errors import ArgumentError
from suture.repairs.defensyn import DefendedClassifier, parse
from suture.rng import Stream
from suture.studies import STUDIES
from suture.studies.defensyn.backdoor import measure
from suture.studies.defensyn.cells import DefEnSynTables
from suture.studies.defensyn.measuring import Protocol, measured
from suture.studies.defensyn.settings import NONE, VARIANTS, setting
from suture.testing.exact import ExactLinear, classified_batch


def test_variants_change_fields_that_exist_and_names_are_checked():
    from suture.repairs import DefEnSyn

    for fields in VARIANTS.values():
        DefEnSyn(**fields)
    assert setting("resnet20-linf").budgeted(500).queries == 62  # type: ignore[attr-defined]
    assert setting("fashion-pixle").budgeted(500) == Pixle()
    with pytest.raises(ArgumentError, match="did you mean"):
        STUDIES["defensyn-tables"]().with_settings({"settings": "mlp-lin"})


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
    made = STUDIES["defensyn-tables"]().with_settings(
        {"settings": "mlp-linf,fashion-l2", "n": "12", "samples": "12", "programs": "200",
         "queries": "8", "repeats": "1", "attacked": "6", "tier": "quick",
         "backdoor_train": "200", "backdoor_test": "100"}
    )  # fmt: skip
    wanted = ("mlp-linf", "fashion-l2-No", "backdoor", "features")
    # Random is left out: each query of its attacker is 50 draws.
    cells = [cell for cell in made.cells() if not cell.key.endswith("-Random")]
    rows = [r for cell in cells if cell.key.startswith(wanted) for r in cell.measure(Stream(1))]
    rows = json.loads(json.dumps(rows, allow_nan=False))
    titles = [table.title for table in made.tables(rows)]
    assert [t[:7] for t in titles if t.startswith("Table")] == [f"Table {i}" for i in range(2, 7)]
    keys = [drawing.key for drawing in made.figures(rows)]
    assert {"k-mlp-linf", "samples", "length", "program-0", "changes-mlp-linf"} <= set(keys)
    assert any("Backdoor" in note for note in made.notes(rows))
    assert all(cell.measure.func.__module__.startswith("suture.") for cell in made.cells())  # type: ignore[attr-defined]


@pytest.mark.data
def test_the_backdoor_is_planted_and_followed_by_length():
    if data.folder() is None:
        pytest.skip("needs the data folder: set SUTURE_DATA")
    study = DefEnSynTables(backdoor_train=1500, backdoor_test=300, samples=100, programs=500)
    rows = measure(study, Stream(0))
    bare, first = rows[0], rows[1]
    assert bare["variant"] == NONE and bare["triggered"] < bare["clean"] - 50
    lengths = [r for r in rows if r["what"] == "backdoor length"]
    assert [r["length"] for r in lengths] == list(range(1, len(lengths) + 1))
    assert (lengths[-1]["clean"], lengths[-1]["triggered"]) == (first["clean"], first["triggered"])
