"""DARE as a whole: what stays, what is learned, what is said where it cannot work."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from suture import models
from suture.attacks import FGSM
from suture.engine import Inline, Ledger, Recorded
from suture.errors import ArgumentError
from suture.repairs import DARE, Status, repair
from suture.repairs import tuning as searching
from suture.repairs.dare import Grid
from suture.testing.small import digits
from suture.training import History
from suture.types import Batch

from .conftest import with_history

GRID = Grid(rates=(1e-2, 1e-3), epochs=3)


def method(**fields) -> DARE:
    fields = {"history": str(with_history()[1]), "grid": GRID} | fields
    return DARE(**fields)


def images() -> Batch:
    """Half of what the network was trained on, and all that it was not."""
    return Batch.concat([digits().train.batch(400), digits().validation.batch()])


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_it_learns_and_leaves_model_and_history_alone():
    model, folder = with_history()
    before, files = models.fingerprint(model), hashes(folder)
    result = repair(model, images(), method(), generator=1)
    assert models.fingerprint(model) == before and hashes(folder) == files
    assert result.status is Status.TUNED
    trace = result.trace
    assert trace["search"]["chosen"]["score"] > trace["search"]["before"]["score"]
    assert trace["search"]["chosen"]["accuracy"] >= trace["search"]["floor"]
    assert trace["epochs"] == [4, 5, 6] and trace["watched"] == "6.weight"
    assert sum(trace["tutors"].values()) == trace["collected"] > 50
    assert set(trace["stages"]) == {"history", "slicing", "collection", "judge", "tuning"}
    changed = {name for name, value in result.model.state_dict().items()
               if not torch.equal(value, model.state_dict()[name])}  # fmt: skip
    assert changed == {"1.weight", "3.weight", "6.weight"}, "synapses up to the watched layer"


def test_the_given_models_mode_stays():
    model = copy.deepcopy(with_history()[0]).train()
    repair(model, images(), method(grid=replace(GRID, rates=(1e-3,), epochs=1)), generator=1)
    assert all(module.training for module in model.modules())


def test_slicing_leaves_the_other_synapses_alone():
    model, _ = with_history()
    result = repair(model, images(), method(q=10.0), generator=1)
    sliced = repair(model, images(), method(slicing=False), generator=1)
    share = {}
    for name, made in (("sliced", result.model), ("whole", sliced.model)):
        same = made.state_dict()["6.weight"] == model.state_dict()["6.weight"]
        share[name] = float(same.float().mean())
    assert share["sliced"] > 0.2 > share["whole"]


@pytest.mark.parametrize(
    "fields",
    [{"slicing": False}, {"slicing": False, "loss": "classification"}, {"tutors": "random"},
     {"p": 2}, {"q": 75.0}, {"judge": FGSM(eps=0.1)}, {"samples": 120}],
    ids=str,
)  # fmt: skip
def test_every_variant_runs(fields: dict):
    model, _ = with_history()
    result = repair(model, images(), method(**fields), generator=2)
    assert result.status in (Status.TUNED, Status.UNCHANGED)
    if fields.get("loss") == "classification" and result.status is Status.TUNED:
        last = result.model.state_dict()["8.weight"]
        assert not torch.equal(last, model.state_dict()["8.weight"])
    if "samples" in fields:
        assert result.trace["samples"] == 90
    if fields.get("p") == 2:
        assert result.trace["watched"] == "3.weight"


def test_variants_differ():
    model, _ = with_history()
    prints = {models.fingerprint(repair(model, images(), method(**fields), generator=2).model)
              for fields in ({}, {"slicing": False}, {"tutors": "random"}, {"p": 2})}  # fmt: skip
    assert len(prints) == 4


def test_without_a_history_it_says_so():
    model, _ = with_history()
    with pytest.raises(ArgumentError, match="a model alone.*retrain=EPOCHS"):
        repair(model, images(), DARE(), generator=1)


def test_a_retraining_is_a_history_of_its_own():
    model, _ = with_history()
    before = models.fingerprint(model)
    result = repair(model, images(), DARE(retrain=2, grid=GRID), generator=1)
    assert result.trace["memory"] == "re-trained for 2 epochs"
    assert result.trace["epochs"] == [1, 2]
    assert result.trace["samples"] <= len(images()) // 2
    assert models.fingerprint(model) == before


def test_no_setting_within_the_limit_gives_the_original():
    model, _ = with_history()
    wild = Grid(rates=(50.0,), optimisers=("sgd",), epochs=2, limit=0.0)
    result = repair(model, images(), method(grid=wild), generator=1)
    assert result.status is Status.BEYOND_LIMIT
    assert models.fingerprint(result.model) == models.fingerprint(model)
    assert result.model is not model


def test_nothing_to_learn_from_itself(tmp_path):
    """A history that ends with the model and remembers only its last epoch has no better self."""
    model, folder = with_history()
    own = copy.deepcopy(model)
    own.load_state_dict(History.open(folder).state(6))
    result = repair(own, images(), method(share=0.1), generator=1)
    assert result.status is Status.UNCHANGED and result.trace["collected"] == 0


class Killed(BaseException):
    """Stands for a power cut."""


def test_an_interrupted_tuning_goes_on(tmp_path, monkeypatch):
    model, _ = with_history()
    whole = repair(model, images(), method(), generator=1)
    calls = []
    real = searching._tune

    def dies(*args):
        calls.append(args[-2])
        if len(calls) == 3:
            raise Killed
        return real(*args)

    monkeypatch.setattr(searching, "_tune", dies)
    ledger = Ledger(tmp_path / "ledger")
    with pytest.raises(Killed):
        repair(model, images(), method(), generator=1, engine=Recorded(Inline(), ledger))
    assert len(calls) == 3
    again = Recorded(Inline(), Ledger(tmp_path / "ledger"))
    resumed = repair(model, images(), method(), generator=1, engine=again)
    assert len(calls) == 5, "two of four settings were kept"
    assert models.fingerprint(resumed.model) == models.fingerprint(whole.model)
    assert resumed.trace["search"] == whole.trace["search"]


def test_a_retraining_is_kept_by_a_run(tmp_path, monkeypatch):
    model, _ = with_history()
    way = DARE(retrain=2, grid=replace(GRID, rates=(1e-3,), epochs=1))
    first = repair(model, images(), way, generator=1,
                   engine=Recorded(Inline(), Ledger(tmp_path / "l")))  # fmt: skip
    monkeypatch.setattr("suture.repairs.dare.memory._trained_on", None)
    second = repair(model, images(), way, generator=1,
                    engine=Recorded(Inline(), Ledger(tmp_path / "l")))  # fmt: skip
    assert models.fingerprint(first.model) == models.fingerprint(second.model)


@pytest.mark.parametrize(
    "wrong",
    [{"share": 0.0}, {"share": 1.1}, {"retrain": -1}, {"history": "h", "retrain": 2},
     {"retrain_rate": 0.0}, {"p": -1}, {"q": 0.0}, {"q": 101.0}, {"loss": "l1"},
     {"tutors": "worst"}, {"loss": "classification"}, {"held_out": 1.0}, {"samples": 3}],
    ids=str,
)  # fmt: skip
def test_senseless_arguments_are_refused(wrong: dict):
    with pytest.raises(ArgumentError):
        DARE(**wrong)
