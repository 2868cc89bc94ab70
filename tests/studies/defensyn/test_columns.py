"""What the tables and notes of the DefEnSyn study say of given rows."""

from __future__ import annotations

from typing import Any

from suture.studies import Row
from suture.studies.defensyn.columns import spread, tables
from suture.studies.defensyn.notes import told
from suture.studies.defensyn.settings import FULL, NONE, SETTINGS


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
    found = tables([row(NONE), defended()])
    assert [table.title.split(":")[0] for table in found[:2]] == [
        "Table 2",
        "What is left before an attacker who knows the programs",
    ]
    bare, repaired = found[0].cells
    assert bare[0] == "net, Square linf ε=0.1, 5000 queries"
    assert bare[3].startswith("20.0 %") and bare[-1].startswith("79.72, 7.69 (ConvNeXt")
    assert repaired[3].startswith("85.0 %") and "80, 90 of 100" in repaired[3]
    assert repaired[4].startswith("21.6 %") and repaired[5] == "1 + 2"
    assert "77.38" in repaired[-1]


def test_what_is_left_stands_beside_what_is_left_of_the_undefended():
    _, table = tables([row(NONE), defended()])[:2]
    bare, repaired = table.cells
    assert [cell.split(" ")[0] for cell in bare[2:8]] == [
        "96.0",
        "24.0",
        "20.0",
        "—",
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
    found = told([row(NONE), defended()])
    (said,) = (n for n in found if n.startswith("mlp-linf"))
    assert "+65.0 points under the paper's" in said and "Aimed" not in said
    assert "+1.6 of them are left" in said and "21.6 against 20.0 % of 50 images" in said
    found = told([row(NONE, paper=[70]), defended(clean=90)])
    (said,) = (n for n in found if n.startswith("mlp-linf"))
    assert "+15.0 points" in said and "Aimed at +40" in said and "only 25.0 points" in said
    found = told([row(NONE), defended(disagreements=3)])
    assert any("by 3" in n for n in found)


def test_notes_compare_learned_with_uniform():
    lengths = [{"entropy_left": 3.0, "entropy_right": 3.0},
               {"entropy_left": 0.0, "entropy_right": 0.6931472}]  # fmt: skip
    uniform = row("Uniform-DefEnSyn", paper=[60])
    (said,) = (n for n in told([defended(lengths=lengths), uniform])
               if n.startswith("Learned"))  # fmt: skip
    assert "beat uniform" in said and "85.0 against 60.0" in said and "1.0 features" in said
    assert "2.0 read" in said
    found = told([defended(lengths=[]), row("Uniform-DefEnSyn", paper=[86])])
    assert any("do not beat" in note for note in found)


def test_repetitions_are_shown_with_their_spread():
    assert spread([7], 10).startswith("70.0 % [") and spread([7], 10).endswith("(7/10)")
    assert spread([6, 8], 10).startswith("70.0 % [26.2, 97.5]")
