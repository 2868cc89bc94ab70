"""Proofs beside an attack: rows that cannot contradict each other, and their figure."""

from __future__ import annotations

from suture.attacks import PGD
from suture.evaluate.provable import provable
from suture.report.figures.certified import certified_figure
from suture.rng import Stream
from suture.testing.small import digits, trained


def measured(eps: float) -> list[dict]:
    attack = PGD(eps=eps, steps=5, adaptive=True)
    batch = digits().test.batch(30)
    return provable(trained(), batch, attack, ("ibp", "crown"), stream=Stream(0), batch_size=7)


def test_what_is_proved_lies_below_what_the_attack_leaves():
    rows = measured(0.003)
    assert [row["what"] for row in rows] == ["clean", "PGD", "certified, ibp", "certified, crown"]
    clean, pgd, ibp, crown = (row["right"] for row in rows)
    assert ibp <= crown <= pgd <= clean and crown > 0
    assert {row["n"] for row in rows} == {30} and {row["eps"] for row in rows} == {0.003}
    assert [row["contradicted"] for row in rows[2:]] == [0, 0]


def test_the_figure_has_a_line_for_every_row_of_a_radius():
    rows = [*measured(0.003), *measured(0.03)]
    drawing = certified_figure(rows)
    assert drawing.svg.startswith("<svg") and len(drawing.rows) == len(rows) == 8
    assert drawing.rows[0] == ("0.003", "clean", str(rows[0]["right"]), "30")
