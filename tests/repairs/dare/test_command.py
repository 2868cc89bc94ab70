"""``suture slice``, and ``suture repair --method dare``: counts, a picture, the history's place."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from suture import models
from suture.cli import main
from suture.engine import Run

from .conftest import with_history


def suture(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["suture", *words])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training run's folder: the model, and every epoch under ``checkpoints``."""
    monkeypatch.chdir(tmp_path)
    model, history = with_history()
    made = Run.create(tmp_path / "cnn", kind="train", title="t", command="c", seed=0)
    with made:
        models.save(model, made.artifacts / "model")
        shutil.copytree(history, made.folder / "checkpoints", dirs_exist_ok=True)
    made.finish()
    return tmp_path / "cnn"


def test_slice_counts_and_draws(run, capsys, monkeypatch):
    words = ["slice", str(run), "--data", "digits", "--class", "3", "--q", "80", "--json"]
    assert suture([*words, "--picture", "s.svg"], monkeypatch) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["class"], facts["q"]) == (3, 80.0)
    layers = {layer["name"]: layer for layer in facts["layers"]}
    assert list(layers) == ["1.weight", "3.weight", "6.weight", "8.weight"]
    for layer in layers.values():
        assert layer["key_synapses"] == layer["synapses"] - layer["synapses"] // 5
        assert layer["positive"] + layer["negative"] <= layer["synapses"]
    assert layers["8.weight"]["positive"] <= 64, "only the class's own row contributes"
    picture = Path("s.svg").read_text()
    assert picture.startswith("<svg xmlns=") and "key neurons" in picture
    assert suture(["slice", str(run), "--data", "digits", "--class", "77"], monkeypatch) == 2
    assert "a class from 0 to 9" in capsys.readouterr().err


def test_repair_finds_the_runs_own_history(run, capsys, monkeypatch):
    words = ["repair", str(run), "--data", "digits", "--method", "dare", "--json", "--out", "out"]
    assert suture(words, monkeypatch) == 0
    out = capsys.readouterr()
    assert json.loads(out.out)["status"] == "tuned"
    assert "143 validation images" in out.err
    trace = json.loads(Path("out/artifacts/trace.json").read_text())
    assert trace["memory"] == "history of 6 epochs"
    alone = ["repair", str(run / "artifacts" / "model"), *words[2:-1], "out2"]
    assert suture(alone, monkeypatch) == 2
    assert "--retrain" in capsys.readouterr().err
