"""What costs as much as asking the past, and the tables over several trainings."""

from __future__ import annotations

import pytest

from suture.rng import Stream
from suture.studies import STUDIES
from suture.studies.dare import beyond, earning
from suture.studies.dare.subject import DarePlan

from .test_cells import SMALL


def test_a_budget_by_hand():
    budget = earning.EqualPasses(images=100, tutors=3, settings=2)
    # An epoch of an image: attack 5 · 3, own + 3 tutors + values 5, two images learned 6.
    assert budget.passes == 2 * 6 * 100 * (15 + 5 + 6) == 31_200
    assert budget.fgsm_epochs() == 26  # 2 · 100 · 3 = 600 an epoch, twice
    assert budget.training_epochs(3) == 26  # 100 · 4 · 3 = 1 200 an epoch


def test_seeds_in_one_line():
    def row(seed, right):
        return {"what": "transferred", "name": "DARE", "attack": "BIM", "seed": seed,
                "right": right, "n": 10}  # fmt: skip

    (table,) = beyond.over_seeds("net", [row(0, 1), row(1, 3)])
    assert table.cells[0][table.header.index("DARE")] == "20.0 (10.0 to 30.0)"
    assert beyond.over_seeds("net", [row(0, 1)]) == []
    lone = [row(0, 1), row(1, 3), {**row(0, 9), "name": "BIM"}]
    (table,) = beyond.over_seeds("net", lone)
    assert table.cells[0][table.header.index("BIM")] == "—", "not measured on every seed"


def test_further_seeds_are_cells_of_the_main_table():
    keys = [cell.key for cell in STUDIES["dare-tables"](seeds=3).cells()]
    assert len(keys) == len(set(keys))
    assert "vgg_narrow-DARE-seed2" in keys and "vgg_narrow-JSMA-seed1-autoattack" in keys
    assert "vgg_narrow-q=75-seed1" not in keys


def test_ways_have_their_budgets():
    plan = DarePlan(STUDIES["dare-tables"](), "vgg_narrow")
    budget = earning.EqualPasses(1500, 30, 2)
    trained, made = (earning.way(n, plan, tutors=30) for n in (earning.TRAINED, earning.FGSM))
    assert trained.epochs == budget.training_epochs(trained.steps)
    assert made.grid.epochs == made.grid.patience == budget.fgsm_epochs()
    assert {earning.way(n, plan).asked for n in earning.ASKED} == {"attacked", "clean"}
    shares = {n: earning.way(n, plan).share for n in earning.ASKED}
    assert shares.pop("as the clean one, no history") == 1 / 60 and set(shares.values()) == {0.5}


@pytest.mark.slow
def test_asking_is_measured():
    study = STUDIES["dare-tables"]().with_settings({**SMALL, "autoattack": "5"})
    plan, name = DarePlan(study, "digits_cnn"), "asked, logits"
    rows = earning.measure(name, plan, Stream(0))
    rows = [{"cell": f"digits_cnn-{row['name']}-earning", **row} for row in rows]
    (table,) = [t for t in study.tables(rows) if t.title.startswith("Asking the past")]
    assert [line[0] for line in table.cells] == [name]
    assert " %, " in table.cells[0][table.header.index("taught, tutors: before")]
