"""What the tables of the A5 studies say of given rows."""

from __future__ import annotations

from suture.studies.a5 import columns
from suture.studies.a5.cells import A5Mnist
from suture.studies.a5.radii import Radii


def row(recipe: str, eps_d: float | None, wrong: int, **given) -> dict:
    return {
        "recipe": recipe, "eps": 0.3, "eps_c": 0.3, "eps_r": 0.3, "eps_d": eps_d, "n": 1000,
        "clean_wrong": 10,
        "ibp_wrong": wrong, "few": 4, "few_certified_wrong": 1, "few_ibp_wrong": 1,
        "few_crown-ibp_wrong": 2, "few_crown_wrong": 3, "after_wrong": 1, "before_wrong": 4,
        "before_n": 4, "certified_few": [True, True, True, False],
        "after_held": [True, True, True, False], "train_seconds": 1.0, "curves": [],
    } | given  # fmt: skip


def test_the_papers_numbers():
    def printed(data, recipe, eps, eps_d, eps_c=None, eps_r=None):
        radii = Radii(eps, eps if eps_c is None else eps_c, eps_r or eps, eps_d)
        found = columns.errors({"recipe": recipe, **radii.row()}, data)
        return found and tuple(found.values())

    assert printed("mnist", "CROWN-IBP", 0.3, None) == ("Table 2", 1.41, 7.06, 9.98)
    assert printed("mnist", "R", 0.3, 0.3) == ("Table 4", 1.32, 1.86, 1.99)
    assert printed("mnist", "RC", 0.1, 0.05) == ("Table 5", 1.00, 1.38, 2.35)
    assert printed("cifar10-jpeg", "RC", 8 / 255, 32 / 255) == ("Table 8", 41.59, 43.01, 45.55)
    assert printed("mnist", "R", 0.3, 0.3, eps_c=0.1) == ("Table 4", 0.93, 85.54, 100)
    assert printed("mnist", "CROWN-IBP", 0.3, None, eps_c=0.0) == ("Table 2", 0.69, 100, 100)
    grey = 8 / 255
    assert printed("cifar10", "O", grey, 4 / 255, eps_r=16 / 255) == (
        "Table 6",
        53.75,
        64.92,
        65.49,
    )
    assert printed("cifar10", "RC", grey, 0.0, eps_r=4 / 255) == ("Table 8", 50.24, 69.17, 73.65)
    assert printed("cifar10", "O", 0.1, 0.1) is None
    assert printed("mnist", "R", 0.3, 0.25) is None
    assert printed("fashion-mnist", "R", 0.3, 0.3) is None


def test_gains_are_relative_and_judged_against_half_of_the_papers():
    rows = [row("CROWN-IBP", None, 200), row("R", 0.3, 110), row("RC", 0.3, 102)]
    table = columns.gains(rows, "mnist")
    assert table.header[5] == "relative gain (the paper's)"
    assert [(r[2], r[4], r[5], r[6]) for r in table.cells] == [
        ("R", "CROWN-IBP", "45.0 % (80.1 %)", "yes"),
        ("RC", "CROWN-IBP", "49.0 % (84.1 %)", "yes"),
        ("RC", "R", "7.3 % (20.1 %)", "no"),
    ]


def test_radii_that_differ_have_columns_of_their_own_and_rivals_of_their_own():
    apart = {"eps_c": 0.1}
    rows = [row("CROWN-IBP", None, 200), row("R", 0.3, 110)]
    rows += [row("CROWN-IBP", None, 1000, **apart), row("R", 0.3, 900, **apart)]
    table = columns.gains(rows, "mnist")
    assert table.header[:5] == ("ε_A", "ε_A^C", "ε_A^R", "ε_D", "recipe")
    assert [(r[1], r[7][:6]) for r in table.cells] == [("0.3", "45.0 %"), ("0.1", "10.0 %")]
    assert columns.after(rows[:2], "mnist").header[:3] == ("ε_A", "recipe", "ε_D")


def test_threat_models_stand_in_tables_of_their_own():
    rows = [row("CROWN-IBP", None, 200), row("R", 0.3, 110), row("O", 0.3, 90)]
    del rows[2]["before_wrong"]
    after, _, _, before = columns.tables(A5Mnist(), rows)
    assert [r[1] for r in before.cells] == ["CROWN-IBP", "R"]
    assert [r[1] for r in after.cells] == ["CROWN-IBP", "O", "R"]
    assert "11.0 %" in after.cells[2][6] and after.cells[2][7] == "1.32 [1.86, 1.99]"
    assert columns.elsewhere(rows) == []


def test_a_broken_certificate_raises_an_alarm():
    good, bad = row("R", 0.3, 110), row("R", 0.3, 110, after_held=[False, True, True, False])
    assert columns.contradictions([good]) == 0
    assert any("No certified image" in note for note in columns.notes([good]))
    assert columns.contradictions([good, bad]) == 1
    assert any(note.startswith("ALARM: 1 ") for note in columns.notes([bad]))


def test_spared_images_are_told_of():
    part = row("R", 0.3, 110, after_attacked=1)
    (told,) = [note for note in columns.notes([part]) if "bounds" in note]
    assert told.startswith("3 certified images did not meet")


def test_radii_in_words():
    assert columns.radius(8 / 255) == "8/255" and columns.radius(0.3) == "0.3"
    assert columns.radius(None) == "—" and columns.radius(0.2) == "0.2"


def test_the_papers_ratio_stands_beside_ours():
    rows = [row("CROWN-IBP", None, 200), row("PC", 0.3, 50)]
    assert "PC's certified error is 0.25 of CROWN-IBP's" in columns.letter_notes(rows)[-1]
    table_9, _ = columns.letter_tables(
        [row("PC", 0.3, 50, mean_moved=0.1), row("PRC", 0.3, 20, mean_moved=0.2)]
    )
    assert [line[5] for line in table_9.cells] == ["0.73 [4.20]", "—"]
