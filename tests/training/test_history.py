"""A run's memory on disk: complete, hashed, resumable."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from safetensors import safe_open
from torch import nn

from suture import data
from suture.errors import ArgumentError, BundleError, StorageError
from suture.training import History, Retention, TrainConfig, train

from .conftest import Tiny, same_weights

CONFIG = TrainConfig(epochs=5, batch_size=32, augment="crop-rotate", keep_best=False)


class Killed(Exception):
    """Stands for a power cut."""


@pytest.fixture
def folder(tmp_path, few):
    train(Tiny(), few, config=CONFIG, history=tmp_path / "run", seed=3)
    return tmp_path / "run"


def killer(epoch, batch=2):
    def on_progress(progress):
        if (progress.epoch, progress.batch) == (epoch, batch):
            raise Killed

    return on_progress


def test_every_epoch_is_remembered(folder):
    history = History.open(folder)
    assert history.epochs == [1, 2, 3, 4, 5]
    assert history.last_half() == [3, 4, 5]
    assert history.finished
    assert history.config == repr(CONFIG)
    history.verify()
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        *(f"epoch-000{k}.safetensors" for k in range(1, 6)),
        "history.json",
        "optimiser-0005.safetensors",
    ]


def test_files_are_what_other_tools_expect(folder):
    manifest = json.loads((folder / "history.json").read_text())
    entry = manifest["checkpoints"][1]
    assert hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    with safe_open(folder / entry["file"], "pt") as opened:
        assert set(opened.keys()) == set(Tiny().state_dict())
        assert opened.metadata()["epoch"] == "2"
        accuracy = manifest["curves"][1]["validation_accuracy"]
        assert opened.metadata()["validation_accuracy"] == str(accuracy)


def test_the_last_epoch_is_the_returned_model(tmp_path, few):
    result = train(Tiny(), few, config=CONFIG, history=tmp_path)
    history = History.open(tmp_path)
    assert same_weights(history.load_into(Tiny(seed=9), 5), result.model)
    assert not same_weights(history.load_into(Tiny(), 4), result.model)
    assert history.curves == result.curves


def test_an_earlier_epoch_is_the_model_of_a_shorter_run(tmp_path, few):
    """Independent reference: with a constant rate, epoch 2 of 5 is the end of a run of 2."""
    long, short = (
        TrainConfig(epochs=n, batch_size=32, schedule="none", keep_best=False) for n in (5, 2)
    )
    train(Tiny(), few, config=long, history=tmp_path)
    expected = train(Tiny(), few, config=short).model
    assert same_weights(History.open(tmp_path).load_into(Tiny(), 2), expected)


@pytest.mark.parametrize("optimiser", ["adam", "sgd", "rmsprop"])
@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path, few, optimiser, epoch):
    config = TrainConfig(epochs=4, batch_size=32, optimiser=optimiser, lr=0.01)
    whole = train(Tiny(), few, config=config, seed=1)
    with pytest.raises(Killed):
        train(Tiny(), few, config=config, seed=1, history=tmp_path, on_progress=killer(epoch))
    resumed = train(Tiny(), few, config=config, seed=1, history=tmp_path, resume=True)
    assert same_weights(whole.model, resumed.model)
    assert resumed.best_epoch == whole.best_epoch
    for old, new in zip(whole.curves, resumed.curves, strict=True):
        assert (old.train_loss, old.validation_loss) == (new.train_loss, new.validation_loss)


def test_a_crash_between_files_leaves_the_epoch_before(tmp_path, few, monkeypatch):
    """The manifest is written last: whatever else lies in the folder does not count."""
    honest = History.save

    def crash(self):
        if len(self.curves) == 3:
            raise Killed
        honest(self)

    monkeypatch.setattr(History, "save", crash)
    with pytest.raises(Killed):
        train(Tiny(), few, config=CONFIG, history=tmp_path)
    monkeypatch.undo()
    history = History.open(tmp_path)
    history.verify()
    assert history.epochs == [1, 2]
    resumed = train(Tiny(), few, config=CONFIG, history=tmp_path, resume=True)
    assert same_weights(resumed.model, train(Tiny(), few, config=CONFIG).model)


def test_a_finished_run_resumes_to_itself(folder, few):
    before = (folder / "history.json").read_bytes()
    heard = []
    result = train(
        Tiny(), few, config=CONFIG, history=folder, seed=3, resume=True, on_progress=heard.append
    )
    assert heard == []
    assert (folder / "history.json").read_bytes() == before
    assert same_weights(result.model, History.open(folder).load_into(Tiny(), 5))


def test_resuming_an_empty_folder_starts(tmp_path, few):
    result = train(Tiny(), few, config=CONFIG, history=tmp_path / "new", resume=True)
    assert len(result.curves) == 5


def test_an_earlier_history_is_not_overwritten(folder, few):
    with pytest.raises(StorageError, match="resume=True"):
        train(Tiny(), few, config=CONFIG, history=folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"seed": 4}, "seed"), ({"config": TrainConfig(epochs=6)}, "config")],
)
def test_another_runs_history_is_refused(folder, few, change, message):
    arguments = {"config": CONFIG, "seed": 3} | change
    with pytest.raises(BundleError, match=message):
        train(Tiny(), few, history=folder, resume=True, **arguments)


def test_other_data_is_refused(folder, few):
    other = data.load(few.name, seed=1)
    with pytest.raises(BundleError, match="data"):
        train(Tiny(), other, config=CONFIG, seed=3, history=folder, resume=True)


def test_altered_weights_are_refused(folder):
    path = folder / "epoch-0003.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    history = History.open(folder)
    history.load_into(Tiny(), 2)
    for refused in (lambda: history.load_into(Tiny(), 3), history.verify):
        with pytest.raises(BundleError, match="epoch-0003"):
            refused()


def test_missing_weights_are_named(folder):
    (folder / "epoch-0003.safetensors").unlink()
    with pytest.raises(BundleError, match="epoch-0003"):
        History.open(folder).state(3)


@pytest.mark.parametrize("epoch", [0, 6, -1])
def test_unknown_epochs_are_refused(folder, epoch):
    with pytest.raises(ArgumentError, match="an epoch out of 1, 2, 3, 4, 5"):
        History.open(folder).load_into(Tiny(), epoch)


def test_another_architecture_is_refused(folder):
    with pytest.raises(BundleError, match="architecture"):
        History.open(folder).load_into(nn.Linear(2, 2), 1)


def broken(content, **changes):
    return json.dumps(json.loads(content) | changes)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:50],
        lambda content: "[]",
        lambda content: broken(content, version=99),
        lambda content: broken(content, curves=[]),
        lambda content: content.replace("epoch-0001", "../epoch-0001"),
        lambda content: broken(content, optimiser=7),
    ],
)
def test_damaged_manifests_are_refused(folder, damage):
    path = folder / "history.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(BundleError):
        History.open(folder)


def test_no_history_at_all(tmp_path):
    with pytest.raises(BundleError, match="history"):
        History.open(tmp_path)


def test_tied_weights_can_be_remembered(tmp_path, few):
    first = nn.Linear(64, 64)
    model = nn.Sequential(nn.Flatten(), first, nn.ReLU(), first, nn.Linear(64, 10))
    result = train(model, few, config=TrainConfig(epochs=1), history=tmp_path)
    loaded = History.open(tmp_path).state(1)
    assert torch.equal(loaded["1.weight"], result.model[1].weight)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Retention(), {1, 2, 3, 4, 5, 6, 7}),
        (Retention(every=3), {2, 3, 6, 7}),  # 2 is the best, 7 the newest
        (Retention(last=2), {2, 6, 7}),
        (Retention(every=2, last=2), {2, 4, 6, 7}),
        (Retention(megabytes=0.4), {2, 5, 6, 7}),  # four of 100 kB
        (Retention(megabytes=0.01), {2, 7}),
    ],
)
def test_rules_by_hand(rule, expected):
    assert rule.kept(newest=7, best=2, size=100_000) == expected


@pytest.mark.parametrize("wrong", [{"every": 0}, {"last": 0}, {"megabytes": 0.0}])
def test_rules_that_keep_nothing_are_refused(wrong):
    with pytest.raises(ArgumentError):
        Retention(**wrong)


def test_some_epochs_are_forgotten_and_a_killed_run_ends_the_same(tmp_path, few):
    rule = Retention(every=2, last=1)
    whole = train(Tiny(), few, config=CONFIG, history=tmp_path / "a", retention=rule)
    history = History.open(tmp_path / "a")
    assert history.epochs == sorted({4, 5, history.best_epoch}) and len(history.curves) == 5
    files = {path.name for path in (tmp_path / "a").glob("epoch-*")}
    assert files == {f"epoch-000{k}.safetensors" for k in history.epochs}
    assert history.size == sum((tmp_path / "a" / name).stat().st_size for name in files)
    history.verify()
    with pytest.raises(ArgumentError, match="an epoch out of"):
        history.state(1 if history.best_epoch != 1 else 2)

    with pytest.raises(Killed):
        train(Tiny(), few, config=CONFIG, history=tmp_path / "b", retention=rule,
              on_progress=killer(4))  # fmt: skip
    again = train(Tiny(), few, config=CONFIG, history=tmp_path / "b", retention=rule, resume=True)
    assert same_weights(again.model, whole.model)
    assert History.open(tmp_path / "b").epochs == history.epochs
