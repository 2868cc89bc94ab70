"""The A5 studies: what their tables say, and one recipe after another on the digits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from suture.engine import Run
from suture.repairs.a5 import Camera, glyphs
from suture.studies import a5, a5_glyph_sheets, a5_sheets, run_study, study
from suture.studies.a5_glyphs import A5Glyphs
from suture.studies.a5_images import A5Mnist
from suture.studies.a5_paper import printed

TINY = A5Mnist(
    data="digits", radii=(0.05,), defences=(0.1,), train=300, test=40, attacked=4,
    epochs=(3, 1, 1), ramp=1, offline_steps=2,
)  # fmt: skip


def row(recipe: str, eps_d: float | None, wrong: int, **given) -> dict:
    return {
        "recipe": recipe, "eps": 0.3, "eps_d": eps_d, "n": 1000, "clean_wrong": 10,
        "ibp_wrong": wrong, "few": 4, "few_certified_wrong": 1, "few_ibp_wrong": 1,
        "few_crown-ibp_wrong": 2, "few_crown_wrong": 3, "after_wrong": 1, "before_wrong": 4,
        "before_n": 4, "certified_few": [True, True, True, False],
        "after_held": [True, True, True, False], "train_seconds": 1.0, "curves": [],
    } | given  # fmt: skip


def test_the_papers_numbers():
    assert printed("mnist", "CROWN-IBP", 0.3, None) == (1.41, 7.06, 9.98)
    assert printed("mnist", "R", 0.3, 0.3) == (1.32, 1.86, 1.99)
    assert printed("mnist", "RC", 0.1, 0.05) == (1.00, 1.38, 2.35)
    assert printed("cifar10-jpeg", "RC", 8 / 255, 32 / 255) == (41.59, 43.01, 45.55)
    assert printed("cifar10", "O", 0.1, 0.1) is None
    assert printed("mnist", "R", 0.3, 0.25) is None
    assert printed("fashion-mnist", "R", 0.3, 0.3) is None


def test_gains_are_relative_and_judged_against_half_of_the_papers():
    rows = [row("CROWN-IBP", None, 200), row("R", 0.3, 110), row("RC", 0.3, 102)]
    sheet = a5_sheets.gains(rows, "mnist")
    told = [(r[2], r[4], r[5], r[6], r[7]) for r in sheet.rows]
    assert told == [
        ("R", "CROWN-IBP", "45.0 %", "80.1 %", "yes"),
        ("RC", "CROWN-IBP", "49.0 %", "84.1 %", "yes"),
        ("RC", "R", "7.3 %", "20.1 %", "no"),
    ]


def test_threat_models_stand_in_tables_of_their_own():
    rows = [row("CROWN-IBP", None, 200), row("R", 0.3, 110), row("O", 0.3, 90)]
    del rows[2]["before_wrong"]
    before = a5_sheets.before(rows)
    assert [r[1] for r in before.rows] == ["CROWN-IBP", "R"]
    after = a5_sheets.after(rows, "mnist")
    assert [r[1] for r in after.rows] == ["CROWN-IBP", "O", "R"]
    assert "11.0 %" in after.rows[2][6] and after.rows[2][7] == "1.32 [1.86, 1.99]"
    assert a5_sheets.elsewhere(rows) == []


def test_a_broken_certificate_raises_an_alarm():
    good, bad = row("R", 0.3, 110), row("R", 0.3, 110, after_held=[False, True, True, False])
    assert a5_sheets.contradictions([good]) == 0
    assert any("No certified image" in note for note in a5_sheets.notes([good]))
    assert a5_sheets.contradictions([good, bad]) == 1
    assert any(note.startswith("ALARM: 1 ") for note in a5_sheets.notes([bad]))


def test_radii_in_words():
    assert a5_sheets.radius(8 / 255) == "8/255" and a5_sheets.radius(0.3) == "0.3"
    assert a5_sheets.radius(None) == "–" and a5_sheets.radius(0.2) == "0.2"


def test_pictures_survive_as_text():
    images = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    images = (images * 255).round() / 255
    torch.testing.assert_close(a5.unpacked(a5.packed(images), [3, 4, 5]), images)


def test_every_classifier_is_trained_before_what_needs_it():
    keys = [cell.key for cell in study("a5-mnist").cells()]
    assert len(keys) == len(set(keys)) == 2 * (1 + 3 * 2)
    assert keys[:2] == ["eps=0.3-CROWN-IBP", "eps=0.3-R-eps_d=0.3"]
    full = study("a5-mnist").with_settings({"full": "true"})
    assert len(full.cells()) == 2 * (1 + 3 * 5)
    assert full.schedule("CROWN-IBP").epochs == 100 and full.body == "mnist"
    assert full.schedule("RC").augment == "crop-rotate"
    assert study("a5-cifar").with_settings({"full": "true"}).body == "cifar"


def test_a_whole_page(tmp_path, monkeypatch):
    monkeypatch.setattr(a5, "TIER", "quick")
    run = Run.create(
        tmp_path / "run", kind="bench", title="toy", command="suture bench a5-mnist", seed=0
    )
    rows, page = run_study(TINY, run)
    assert [r["recipe"] for r in rows] == ["CROWN-IBP", "R", "RC", "O"]
    for r in rows:
        assert r["clean_wrong"] <= r["ibp_wrong"] <= r["n"] == 40
        assert r["after_wrong"] <= r["few_certified_wrong"] <= 4
        assert r["sweep_wrong"] == sorted(r["sweep_wrong"])
        assert r["sweep_wrong"][3] == r["ibp_wrong"]
        assert r["eps_d"] is None or 0 <= r["moved"] <= 0.1 + 1e-6
        through = {one["attack"].rpartition("through ")[2] for one in r.get("before_tries", [])}
        assert r["recipe"] not in ("R", "RC") or {"R straight through", "undefended"} <= through
    text = page.read_text(encoding="utf-8")
    for title in ("Attack after robustification", "Attack before robustification",
                  "Gains in certified error", "Certified error by bound", "figure-images-0_05",
                  "figure-radius-0_05", "figure-curves-0_05"):  # fmt: skip
        assert title in text
    assert "figure-defence" not in text  # one ε_D makes no curve


LETTERS = A5Glyphs(
    side=16, draws=2, judged=2, epochs=(2, 2, 1), ramp=1, pictures=2, attacked=4
)  # fmt: skip


def test_letters_one_recipe_after_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(a5, "TIER", "quick")
    run = Run.create(
        tmp_path / "run", kind="bench", title="toy", command="suture bench a5-glyphs", seed=0
    )
    rows, page = run_study(LETTERS, run)
    assert [r["recipe"] for r in rows] == ["vanilla", "CROWN-IBP", "P", "PC", "PRC"]
    for r in rows:
        assert r["clean_wrong"] <= r["ibp_wrong"] <= r["n"] == 124
        assert r["after_wrong"] <= r["few_certified_wrong"] <= 4
        assert (0 < r["moved"] <= 0.5 + 1e-6) == (r["recipe"] in ("P", "PC", "PRC"))
        shown = a5.unpacked(r["sheet"]["robustified"], r["sheet"]["shape"])
        assert float((shown - glyphs(16, LETTERS.font).images).abs().max()) == pytest.approx(
            r["moved"], abs=1e-6
        )
    text = page.read_text(encoding="utf-8")
    for title in ("Letters before a camera (Table 9)", "Certified error by bound",
                  "figure-letters-p", "figure-letters-pc", "figure-letters-prc"):  # fmt: skip
        assert title in text


def test_what_the_letters_study_asks_for_with_full_is_the_papers():
    full = replace(LETTERS, full=True)
    assert full.objects.shape == (1, 128, 128) and full.camera == Camera()
    assert full.schedule("CROWN-IBP").epochs == full.schedule("PC").epochs == 100
    assert full.method("PC").body == "mnist" and full.method("vanilla").eps == 0
    assert LETTERS.camera.shift == 0.625 and LETTERS.method("P").schedule.ramp.length == 0


def test_the_papers_ratio_stands_beside_ours():
    rows = [row("CROWN-IBP", None, 200), row("PC", 0.3, 50)]
    assert "PC's certified error is 0.25 of CROWN-IBP's" in a5_glyph_sheets.notes(rows)[-1]
    lines = a5_glyph_sheets.table_9(
        [row("PC", 0.3, 50, mean_moved=0.1), row("PRC", 0.3, 20, mean_moved=0.2)]
    ).rows
    assert [line[5] for line in lines] == ["0.73 [4.20]", "–"]
