"""The A5 studies: what their tables say, and one recipe after another on the digits."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from suture import data, models
from suture.engine import Inline, Ledger, Recorded, Run
from suture.evaluate.tiers import Tier
from suture.repairs.a5 import Camera, glyphs
from suture.repairs.certified_training import Loop, Schedule
from suture.rng import Stream
from suture.studies import STUDIES, run_study
from suture.studies.a5 import measuring, training
from suture.studies.a5.cells import A5Mnist
from suture.studies.a5.glyphs import A5Glyphs
from suture.studies.a5.radii import Radii
from suture.studies.paper import printed
from suture.types import Batch

TINY = A5Mnist(
    data="digits", radii=(0.05,), defences=(0.1,), train=300, test=40, attacked=4,
    epochs=(3, 1, 1), ramp=1, offline_steps=2,
)  # fmt: skip
RADII = Radii(0.05, 0.05, 0.05, 0.1)


def test_pictures_survive_as_text():
    images = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    images = (images * 255).round() / 255
    torch.testing.assert_close(measuring.unpacked(measuring.packed(images), [3, 4, 5]), images)


def test_every_classifier_is_trained_before_what_needs_it():
    keys = [cell.key for cell in STUDIES["a5-mnist"]().cells()]
    assert len(keys) == len(set(keys)) == 2 * (1 + 3 * 2)
    assert keys[:2] == ["eps=0.3-CROWN-IBP", "eps=0.3-R-eps_d=0.3"]


@pytest.mark.parametrize(("name", "grey"), [("mnist", 1), ("cifar10", 255)])
def test_what_full_measures_is_what_the_paper_prints(name, grey):
    study = STUDIES[f"a5-{name[:5]}"]().with_settings({"full": "true"})
    found = {
        (name, recipe, *(round(grey * (value or 0), 6) for value in radii.row().values()))
        for recipe, radii in (cell.measure.args[1:3] for cell in study.cells())
    }
    assert found == set(printed("a5").blocks["errors"]) & {k for k in found if k[0] == name}
    assert len(found) == sum(key[0] == name for key in printed("a5").blocks["errors"])
    assert len(study.cells()) == len(found) == {"mnist": 160, "cifar10": 40}[name]
    assert study.trained_on is None and study.met == study.test == 10_000
    assert study.schedule("CROWN-IBP") == Schedule() and study.steps == 200


def test_full_has_the_papers_networks():
    mnist, cifar = (
        STUDIES[f"a5-{n}"]().with_settings({"full": "true"}) for n in ("mnist", "cifar")
    )
    assert (mnist.network, mnist.body, mnist.trained_for(0.3)) == ("a5_classifier", "mnist", 0.3)
    assert (cifar.network, cifar.body) == ("a5_classifier", "cifar")
    assert cifar.trained_for(8 / 255) == pytest.approx(8.8 / 255)
    assert mnist.schedule("RC").augment == "crop-rotate"
    assert len(STUDIES["a5-fashion"]().with_settings({"full": "true"}).cells()) == 4


def test_a_network_is_trained_once_a_run(tmp_path, monkeypatch):
    """Another process, here an emptied memory, finds it in the run."""
    monkeypatch.setattr(measuring, "TIER", "quick")
    run = Run.create(tmp_path, kind="bench", title="", command="", seed=0)
    before, _ = run_study(TINY, run)
    (lost,) = (tmp_path / "checkpoints" / "cells").glob("*-RC-*")
    lost.unlink()
    training.classifier.cache_clear()
    training.robustified.cache_clear()
    monkeypatch.setattr(Loop, "_epoch", lambda *_: pytest.fail("trained again"))
    again, _ = run_study(TINY, run)
    for name in ("recipe", "curves", "train_seconds", "clean_wrong", "ibp_wrong", "after_held"):
        assert [row[name] for row in again] == [row[name] for row in before]


@pytest.mark.parametrize("sure", [[True] * 12, [True, False] * 6])
def test_certified_images_need_no_attack(sure, monkeypatch):
    """He finds the same as among all, and is not asked where bounds have the answer."""
    monkeypatch.setattr(measuring, "TIER", Tier())
    images = data.load("digits").test.batch(12).images
    model = models.build("digits_cnn", seed=0).eval()
    batch = Batch(images, model(images).argmax(1))
    whole = measuring.attacked(model, batch, 0.02, Stream(0))
    part = measuring.attacked(model, batch, 0.02, Stream(0), sure)
    held = [a or b for a, b in zip(whole["after_held"], sure, strict=True)]
    assert not all(whole["after_held"]) and part["after_held"] == held
    assert part["after_wrong"] == held.count(False) and part["after_attacked"] == sure.count(False)
    assert bool(part["after_tries"]) == (not all(sure))


def test_fewer_images_may_meet_the_attacker_before():
    assert TINY.met_before == 4 and replace(TINY, attacked_before=2).met_before == 2
    assert replace(TINY, attacked_before=9).met_before == 4


def test_a_seed_decides_the_weights():
    made = [training.classifier(replace(TINY, training=seed), 0.05) for seed in (0, 1)]
    first, second = (dict(one.model.named_parameters()) for one in made)
    assert not any(torch.equal(weights, second[name]) for name, weights in first.items())
    seeds = [training.robustified(replace(TINY, training=s), "R", RADII).trace for s in (0, 1)]
    assert seeds[0]["curves"] != seeds[1]["curves"]


def test_the_seconds_of_a_resumed_training_are_all_of_them(tmp_path, monkeypatch):
    moment = [0.0]
    monkeypatch.setattr(training.time, "perf_counter", lambda: moment[0])
    engine = Recorded(Inline(), Ledger(tmp_path))
    watch = training._StopWatch(engine, "work")
    moment[0] = 30.0
    watch("training 1/2", 1, 2)
    moment[0] = 34.0  # killed: the last seconds are lost
    watch = training._StopWatch(Recorded(Inline(), Ledger(tmp_path)), "work")
    moment[0] = 39.0
    assert watch.stopped() == watch.stopped() == 35.0
    assert training._StopWatch(Recorded(Inline(), Ledger(tmp_path)), "work").stopped() == 35.0


def test_a_whole_page(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "TIER", "quick")
    run = Run.create(
        tmp_path / "run", kind="bench", title="toy", command="suture bench a5-mnist", seed=0
    )
    training.classifier.cache_clear()
    training.robustified.cache_clear()
    stages: list[str] = []
    rows, page = run_study(TINY, run, on_progress=lambda stage, *_: stages.append(stage))
    assert any(re.match(r"training 3/3, eps 0.050, loss .*error", stage) for stage in stages)
    assert "measuring RC: attack before" in stages
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
    assert full.objects.shape == (3, 128, 128) and full.camera == Camera()
    assert full.schedule("CROWN-IBP").epochs == full.schedule("PC").epochs == 100
    assert full.method("PC").body == "mnist" and full.method("vanilla").eps == 0
    assert LETTERS.camera.shift == 0.625 and LETTERS.method("P").schedule.ramp.length == 0
