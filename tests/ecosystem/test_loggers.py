"""TensorBoard and MLflow get what the run's records say."""

from __future__ import annotations

import json
import sys

import pytest

from suture.ecosystem import log_mlflow, log_tensorboard
from suture.ecosystem.told import name_of, opened, parameters, plain, scalars
from suture.engine import Run
from suture.errors import BundleError, DependencyError
from suture.report import load


@pytest.fixture
def store(tmp_path, monkeypatch) -> str:
    pytest.importorskip("mlflow", reason="pip install 'suture[mlflow]'")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "store").as_uri()


def test_mlflow_gets_parameters_numbers_and_files(measured, store):
    from mlflow.tracking import MlflowClient

    name = log_mlflow(measured, experiment="digits", tracking_uri=store)
    client, records = MlflowClient(tracking_uri=store), load(measured).records
    run = client.get_run(name)
    assert run.info.status == "FINISHED" and run.info.run_name == "A digit classifier"
    assert run.data.params["command"] == "suture audit cnn --data digits --eps 0.1"
    assert run.data.params["option.eps"] == "0.1" and "option.n" not in run.data.params
    for record in records:
        low, high = record.interval
        assert run.data.metrics[f"accuracy/{name_of(record)}"] == pytest.approx(record.percent)
        assert run.data.metrics[f"accuracy_low/{name_of(record)}"] == pytest.approx(low)
        assert run.data.metrics[f"accuracy_high/{name_of(record)}"] == pytest.approx(high)
    kept = {one.path for one in client.list_artifacts(name)}
    assert {"run.json", "records.jsonl", "report.html"} <= kept
    assert "accuracy goes from" in run.data.tags["verdict"]
    again = log_mlflow(measured, experiment="digits", tracking_uri=store)
    assert client.get_run(again).info.experiment_id == run.info.experiment_id


def test_tensorboard_gets_the_same_numbers(measured, tmp_path):
    pytest.importorskip("tensorboard", reason="pip install 'suture[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    count = log_tensorboard(measured, tmp_path)
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    tags = read.Tags()
    assert len(tags["scalars"]) == count == 3 * len(load(measured).records) + 1
    for record in load(measured).records:
        (found,) = read.Scalars(f"accuracy/{name_of(record)}")
        assert found.value == pytest.approx(record.percent) and found.step == 0
    assert {"run/text_summary", "verdict/text_summary"} <= set(tags["tensors"])


def test_curves_become_steps(tmp_path):
    curves = [
        {"epoch": 1, "train_loss": 2.0, "validation_loss": None},
        {"epoch": 2, "train_loss": 1.0},
    ]
    run = Run.create(tmp_path / "run", kind="train", title="t", command="c", seed=0)
    run.info["curves"] = curves
    run.finish()
    found = [(one.name, one.value, one.step) for one in scalars(opened(run.folder))]
    assert found[:2] == [("epoch/train_loss", 2.0, 1), ("epoch/train_loss", 1.0, 2)]
    assert [name for name, *_ in found[2:]] == ["seconds"]


def test_names_hold_what_every_tool_takes(measured):
    assert plain("Square 300 queries linf ε=0.1, exact mean (L∞)") == (
        "Square 300 queries linf eps 0.1 exact mean Linf"
    )
    names = [name_of(record) for record in load(measured).records]
    assert len(set(names)) == len(names) and all(name.isascii() for name in names)
    assert parameters(load(measured))["seed"] == "7"


def test_a_folder_that_is_no_run_is_refused(tmp_path, store):
    with pytest.raises(BundleError):
        log_mlflow(tmp_path, tracking_uri=store)
    with pytest.raises(BundleError):
        log_tensorboard(tmp_path, tmp_path / "log")
    (tmp_path / "run.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(BundleError):
        log_tensorboard(tmp_path, tmp_path / "log")


@pytest.mark.parametrize(
    ("module", "extra", "name"),
    [
        ("mlflow.tracking", "mlflow", "log_mlflow"),
        ("torch.utils.tensorboard", "tensorboard", "log_tensorboard"),
    ],
)
def test_what_is_missing_is_named(measured, tmp_path, monkeypatch, module, extra, name):
    import suture.ecosystem

    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyError, match=rf"pip install 'suture\[{extra}\]'"):
        getattr(suture.ecosystem, name)(measured, *([tmp_path] if extra == "tensorboard" else []))
