"""Whole trainings on the embedded digits: resume, collapse, limit, frozen layers, progress."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from suture import models
from suture.attacks import PGD
from suture.engine import Inline, Recorded, Run
from suture.errors import ModelError
from suture.repairs import NFGSM, TRADES, PGDTraining, Status, repair
from suture.repairs.adversarial_training.judging import HeldOut, Judge
from suture.repairs.adversarial_training.loop import STAGE, AdversarialLoop
from suture.repairs.adversarial_training.steps import Steps
from suture.repairs.adversarial_training.suffix import part_of
from suture.rng import Stream
from suture.testing.small import digits, trained
from suture.types import Batch

BRIEF = {"eps": 0.1, "epochs": 4, "held_out": 0.2, "judged": 40, "step_images": 64}
METHOD = PGDTraining(**BRIEF)


def images(count: int = 300) -> Batch:
    return digits().train.batch(count)


def test_it_helps_against_an_attacker_who_has_the_model():
    result = repair(trained(), images(800), replace(METHOD, epochs=8), generator=1)
    assert result.status is Status.TUNED
    test = digits().test.batch(150)
    left = [PGD(eps=0.1, steps=20)(m, test, generator=1).robust for m in (trained(), result.model)]
    before, after = (float(robust.float().mean()) for robust in left)
    assert after > before + 0.15


def test_the_trace_has_the_trade_off():
    method = replace(METHOD, epochs=4, warm_up=0.5, judged_epochs=2)
    trace = repair(trained(), images(), method, generator=1).trace
    curve = trace["curve"]
    assert [row["epoch"] for row in curve] == [1, 2, 3, 4]
    assert [row["robust"] is None for row in curve] == [True, True, False, False]
    assert all(set(row) >= {"clean", "seconds", "rate", "loss"} for row in curve)
    assert trace["chosen"]["epoch"] in (3, 4)
    assert trace["chosen"]["robust"] == max(row["robust"] for row in curve[2:])
    assert trace["epochs"] == 4 and trace["samples"] == 240


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    "method",
    [replace(METHOD, awp=0.01, augment="crop-rotate"), NFGSM(**BRIEF), TRADES(**BRIEF, layers=2)],
    ids=lambda m: type(m).__name__,
)
def test_a_resumed_training_ends_like_an_unbroken_one(method, tmp_path, monkeypatch):
    model = copy.deepcopy(trained())
    model.insert(len(model), nn.Dropout(0.1))
    run = Run.create(tmp_path, kind="repair", title="", command="", seed=3, options={})
    with run:
        unbroken = repair(model, images(), method, generator=3)
        engine = Recorded(Inline(), run.ledger)

        def kill(stage: str, done: int, total: int) -> None:
            if done > 0.6 * total:
                raise Killed

        with pytest.raises(Killed):
            repair(model, images(), method, generator=3, engine=engine, on_progress=kill)
        told: list[int] = []
        resumed = repair(
            model, images(), method, generator=3, engine=engine,
            on_progress=lambda stage, done, total: told.append(done),
        )  # fmt: skip
    assert min(told) > 1, "it began where it had stopped"
    assert models.fingerprint(resumed.model) == models.fingerprint(unbroken.model)
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in r.trace["curve"]]
            for r in (resumed, unbroken)]  # fmt: skip
    assert rows[0] == rows[1]


def test_planned_epochs_repeat(tmp_path):
    way = replace(METHOD, minutes=0.02)
    run = Run.create(tmp_path, kind="repair", title="", command="", seed=3, options={})
    with run:
        engine = Recorded(Inline(), run.ledger)
        found = repair(trained(), images(100), way, generator=1, engine=engine)
        again = repair(trained(), images(100), way, generator=1, engine=engine)
    epochs = found.trace["epochs"]
    assert epochs >= 1 and again.trace["epochs"] == epochs, "a resumed run keeps its plan"
    fixed = repair(trained(), images(100), replace(METHOD, epochs=epochs), generator=1)
    assert models.fingerprint(found.model) == models.fingerprint(fixed.model)


def watching(monkeypatch, watched: list[float], judged: HeldOut) -> list[dict]:
    """A judge that says what it is told to; gives the averages as they were after each epoch."""
    states: list[dict] = []
    answers = iter(watched)
    monkeypatch.setattr(Judge, "watch", lambda self, model: next(answers))
    monkeypatch.setattr(Judge, "__call__", lambda self, model: judged)
    original = AdversarialLoop._trained

    def spy(self, epoch):
        loss = original(self, epoch)
        states.append({k: v.clone() for k, v in self.average.state.items()})
        return loss

    monkeypatch.setattr(AdversarialLoop, "_trained", spy)
    return states


def test_a_collapse_ends_the_training_with_the_last_good_weights(monkeypatch):
    scores = iter([HeldOut(1.0, 0.1)] + [HeldOut(1.0, 0.6)] * 9)
    states = watching(monkeypatch, [0.5, 0.6, 0.29], HeldOut(1.0, 0.0))
    monkeypatch.setattr(Judge, "__call__", lambda self, model: next(scores))
    result = repair(trained(), images(), NFGSM(**BRIEF | {"epochs": 9}), generator=1)
    assert result.status is Status.COLLAPSED and result.trace["collapsed"]
    assert len(result.trace["curve"]) == 3, "0.29 < 0.5 · 0.6"
    assert result.trace["chosen"]["epoch"] == 2 and result.trace["chosen"]["robust"] == 0.6
    found = result.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in states[1].items())
    assert not all(torch.equal(found[name], value) for name, value in states[2].items())


def test_no_collapse_is_seen_where_there_is_none(monkeypatch):
    states = watching(monkeypatch, [0.5, 0.3, 0.3, 0.26], HeldOut(1.0, 0.0))
    result = repair(trained(), images(), NFGSM(**BRIEF), generator=1)
    assert len(states) == 4 and result.status is Status.UNCHANGED
    assert not result.trace["collapsed"]
    assert models.fingerprint(result.model) == models.fingerprint(trained())


def test_a_collapse_ends_the_warm_up(monkeypatch):
    """Epoch 3 falls below 92 % of 0.6: on with PGD, from the averaged weights after epoch 2."""
    states = watching(monkeypatch, [0.556, 0.6, 0.551], HeldOut(1.0, 0.9))
    single: dict[int, bool] = {}
    began: dict[int, dict] = {}
    original = Steps.take

    def spy(self, batch, piece, epoch, *rest, **more):
        if epoch not in single:
            began[epoch] = {k: v.clone() for k, v in self.part.model.state_dict().items()}
        single[epoch] = more["single"]
        return original(self, batch, piece, epoch, *rest, **more)

    monkeypatch.setattr(Steps, "take", spy)
    way = replace(METHOD, epochs=6, warm_up=0.7)
    result = repair(trained(), images(), way, generator=1)
    assert single == {1: True, 2: True, 3: True, 4: False, 5: False, 6: False}
    assert result.trace["warm_up"] == 3 and not result.trace["collapsed"]
    assert [row["watched"] for row in result.trace["curve"]] == [
        0.556,
        0.6,
        0.551,
        None,
        None,
        None,
    ]
    assert all(torch.equal(began[4][name], value) for name, value in states[1].items())


def test_trained_at_the_widened_radius():
    method = PGDTraining(eps=0.1, reach=1.5, step_size=0.02)
    assert method.widened.eps == pytest.approx(0.15) and method.widened.step_size == 0.02
    assert PGDTraining(eps=0.9).widened.eps == 1.0
    assert PGDTraining(eps=0.1, reach=1.5).widened.step == pytest.approx(0.075)
    model, batch, far = copy.deepcopy(trained()), images(64), list[float]()
    steps = Steps(replace(METHOD, reach=1.5), part_of(model, "all", batch.images), batch, Stream(0))
    (piece,) = steps.pieces(1)
    clean = batch.images[piece]
    model.register_forward_pre_hook(
        lambda _, args: far.append(float((args[0] - clean).detach().abs().max()))
    )
    steps.take(batch[piece], piece, 1, 0, 0.5)
    assert max(far) == pytest.approx(0.15, abs=1e-6)
    far.clear()
    steps.take(batch[piece], piece, 1, 0, 0.5, single=True)
    assert 0.4 < max(far) <= 0.45 + 1e-6, "noise of twice the radius, and a step of it"


def test_beyond_the_limit_the_given_model_comes_back(monkeypatch):
    scores = iter([HeldOut(0.95, 0.1)] + [HeldOut(0.949, 0.9)] * 9)
    monkeypatch.setattr(Judge, "__call__", lambda self, model: next(scores))
    result = repair(trained(), images(), replace(METHOD, limit=0.0), generator=1)
    assert result.status is Status.BEYOND_LIMIT and result.trace["chosen"] is None
    assert models.fingerprint(result.model) == models.fingerprint(trained())


def with_norm() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Linear(144, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("layers", [1, 2, "all"])
def test_layers_before_the_last_stay_to_the_bit(layers, monkeypatch):
    scores = iter([HeldOut(0.5, 0.0)] + [HeldOut(1.0, 0.9)] * 9)
    monkeypatch.setattr(Judge, "__call__", lambda self, model: next(scores))
    model = with_norm()
    way = replace(METHOD, layers=layers, epochs=2, awp=0.01)
    result = repair(model, images(), way, generator=1)
    assert result.status is Status.TUNED
    before, after = model.state_dict(), result.model.state_dict()
    moved = {int(name[0]) for name in before if not torch.equal(before[name], after[name])}
    assert moved == {1: {7}, 2: {4, 5, 7}, "all": {0, 1, 4, 5, 7}}[layers]
    assert all(p.requires_grad for p in result.model.parameters())
    counter = after["1.num_batches_tracked"]
    assert int(counter) == (4 if layers == "all" else 0), "once a step"


def test_progress_tells_the_time_that_is_left():
    stages: list[str] = []
    repair(trained(), images(), METHOD, generator=1,
           on_progress=lambda stage, done, total: stages.append(stage))  # fmt: skip
    assert stages[0] == f"{STAGE} 1/4"
    assert stages[-1].startswith(f"{STAGE} 4/4, ") and " s left" in stages[-1]
    assert "held out" in stages[-1]


def test_a_training_that_diverges_says_so():
    with pytest.raises(ModelError, match="learning rate"):
        repair(trained(), images(), replace(METHOD, lr=1e30, optimiser="sgd"), generator=1)
