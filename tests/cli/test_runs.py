"""``suture runs``, ``suture resume`` and the options of engines, as the shell would call them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from suture import models
from suture.engine import Run
from suture.testing.small import trained
from tests.cli.conftest import Suture
from tests.cli.test_errors import assert_refused

SMALL = ["--data", "digits", "--eps", "0.2", "--n", "6", "--seed", "1"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models.save(trained(), tmp_path / "model")


@pytest.fixture
def audited(suture: Suture, model: Path, tmp_path: Path) -> Path:
    assert suture("audit", model, *SMALL, "--out", tmp_path / "runs" / "one").status == 0
    return tmp_path / "runs" / "one"


def test_list_show_diff_and_remove(suture: Suture, audited: Path, model: Path, tmp_path: Path):
    other = tmp_path / "runs" / "two"
    given = [model, *SMALL[:-1], "2", "--out", other, "--engine", "processes", "--workers", "1"]
    assert suture("audit", *given).status == 0
    listed = suture("runs", "list", tmp_path / "runs", "--json").json["runs"]
    assert [(Path(row["run"]).name, row["status"]) for row in listed] == [
        ("one", "finished"),
        ("two", "finished"),
    ]
    shown = suture("runs", "show", audited)
    assert "kind" in shown.out and "audit" in shown.out and "part: model" in shown.out
    facts = suture("runs", "diff", audited, other, "--json").json["facts"]
    assert facts["seed"] == [1, 2] and facts["options.engine"] == ["inline", "processes"]
    assert suture("runs", "diff", audited, audited).out == "no difference\n"
    record = json.loads((other / "records.jsonl").read_text().splitlines()[0])
    lines = (other / "records.jsonl").read_text().splitlines()[1:]
    record["right"] -= 1
    record["each"] = ""
    (other / "records.jsonl").write_text("\n".join([json.dumps(record), *lines]))
    assert "clean, repeat 0: " in suture("runs", "diff", audited, other).out
    assert suture("runs", "rm", other).out == f"removed {other}\n" and not other.exists()
    assert_refused(suture("runs", "show", other), "run folder")


def test_options_are_kept_as_values_and_leave_to_run_code_is_not(suture, audited: Path):
    options = json.loads((audited / "run.json").read_text())["options"]
    assert options["n"] == 6 and options["eps"] == 0.2 and options["weights"] is None
    assert "trust_code" not in options and "force" not in options


def test_a_stopped_run_is_finished_with_its_own_options(suture: Suture, audited: Path):
    before = [json.loads(line) for line in (audited / "records.jsonl").read_text().splitlines()]
    run = Run.open(audited)
    run.info["status"] = "stopped"
    (audited / "run.json").write_text(json.dumps(run.info))
    (audited / "records.jsonl").unlink()
    answer = suture("resume", audited, "--json")
    assert answer.status == 0 and answer.json["run"] == str(audited)
    after = [json.loads(line) for line in (audited / "records.jsonl").read_text().splitlines()]
    assert [(r["label"], r["right"], r["queries"]) for r in after] == [
        (r["label"], r["right"], r["queries"]) for r in before
    ]
    assert_refused(suture("resume", audited), "one that is finished")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "rm -rf"}, "'rm -rf'"),
        ({"options": {"surplus": 1}}, "surplus"),
        ({"options": {"model": 7}}, "a value for model"),
        ({"options": None}, "not by a command"),
    ],
)
def test_an_altered_run_is_not_gone_on_with(suture, audited: Path, change, said: str):
    info = json.loads((audited / "run.json").read_text()) | {"status": "stopped"} | change
    (audited / "run.json").write_text(json.dumps(info))
    assert_refused(suture("resume", audited), said)
    assert (audited / "records.jsonl").exists()


def test_a_run_from_elsewhere_cannot_import_code(suture: Suture, audited: Path):
    info = json.loads((audited / "run.json").read_text()) | {"status": "stopped"}
    info["options"] |= {"model": "json:loads", "trust_code": True}
    (audited / "run.json").write_text(json.dumps(info))
    answer = suture("resume", audited)
    assert answer.status == 2 and "--trust-code" in answer.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engine", "proceses"], "did you mean processes"),
        (["--workers", "2"], "--engine processes or ray"),
        (["--engine", "processes", "--address", "auto"], "--engine ray"),
    ],
)
def test_options_of_engines(suture, model: Path, tmp_path: Path, options: list[str], said: str):
    answer = suture("audit", model, *SMALL, "--out", tmp_path / "run", *options)
    assert_refused(answer, said)
    assert not (tmp_path / "run").exists()
