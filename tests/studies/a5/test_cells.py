"""The A5 studies: what their tables say, and one recipe after another on the digits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from suture.engine import Run
from suture.repairs.a5 import Camera, glyphs
from suture.studies import STUDIES, run_study
from suture.studies.a5 import measuring
from suture.studies.a5.cells import A5Mnist
from suture.studies.a5.glyphs import A5Glyphs

TINY = A5Mnist(
    data="digits", radii=(0.05,), defences=(0.1,), train=300, test=40, attacked=4,
    epochs=(3, 1, 1), ramp=1, offline_steps=2,
)  # fmt: skip


def test_pictures_survive_as_text():
    images = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    images = (images * 255).round() / 255
    torch.testing.assert_close(measuring.unpacked(measuring.packed(images), [3, 4, 5]), images)


def test_every_classifier_is_trained_before_what_needs_it():
    keys = [cell.key for cell in STUDIES["a5-mnist"]().cells()]
    assert len(keys) == len(set(keys)) == 2 * (1 + 3 * 2)
    assert keys[:2] == ["eps=0.3-CROWN-IBP", "eps=0.3-R-eps_d=0.3"]
    full = STUDIES["a5-mnist"]().with_settings({"full": "true"})
    assert len(full.cells()) == 2 * (1 + 3 * 5)
    assert full.schedule("CROWN-IBP").epochs == 100 and full.body == "mnist"
    assert full.schedule("RC").augment == "crop-rotate"
    assert STUDIES["a5-cifar"]().with_settings({"full": "true"}).body == "cifar"


def test_a_whole_page(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "TIER", "quick")
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
    monkeypatch.setattr(measuring, "TIER", "quick")
    run = Run.create(
        tmp_path / "run", kind="bench", title="toy", command="suture bench a5-glyphs", seed=0
    )
    rows, page = run_study(LETTERS, run)
    assert [r["recipe"] for r in rows] == ["vanilla", "CROWN-IBP", "P", "PC", "PRC"]
    for r in rows:
        assert r["clean_wrong"] <= r["ibp_wrong"] <= r["n"] == 124
        assert r["after_wrong"] <= r["few_certified_wrong"] <= 4
        assert (0 < r["moved"] <= 0.5 + 1e-6) == (r["recipe"] in ("P", "PC", "PRC"))
        shown = measuring.unpacked(r["sheet"]["robustified"], r["sheet"]["shape"])
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
