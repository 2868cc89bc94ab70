"""Recipes: read with lines, checked as a whole, carried out, gone on with, kept by every run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from suture import models
from suture.cli.recipe_steps import STEPS, checked, options_of, recipe_of
from suture.cli.recipe_text import read, written
from suture.cli.recipes import opened
from suture.errors import ArgumentError
from suture.testing.small import trained
from tests.cli.conftest import Suture
from tests.cli.test_errors import assert_refused

SMALL = """\
suture: 1
folder: runs/small
seed: 3
data: digits
model: net
steps:
  - audit: {eps: 51/255, n: 6}
  - export: {out: net.onnx}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    models.save(trained(), tmp_path / "net")
    (tmp_path / "small.yaml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe(folder: Path, text: str) -> Path:
    (folder / "r.yaml").write_text(text)
    return folder / "r.yaml"


def test_what_init_writes_is_a_recipe_without_mistakes(suture: Suture, place: Path):
    assert suture("init").status == 0
    assert_refused(suture("init"), "no file at recipe.yaml", "--force")
    checked_only = suture("run", "recipe.yaml", "--check")
    assert checked_only.status == 0 and "4 steps, nothing wrong" in checked_only.err
    steps = [step.command for step in opened(Path("recipe.yaml")).steps]
    assert steps == ["train", "audit", "repair", "evaluate"]
    assert not (place / "runs").exists()


def test_a_recipe_is_carried_out_once(suture: Suture, place: Path):
    assert suture("run", "small.yaml").status == 0
    info = json.loads((place / "runs/small/audit/run.json").read_text())
    assert info["seed"] == 3 and info["options"]["eps"] == 0.2 and info["status"] == "finished"
    assert (place / "net.onnx").is_file()
    before = (place / "runs/small/audit/records.jsonl").stat().st_mtime_ns
    again = suture("run", "small.yaml")
    assert again.status == 0 and "finished before: runs/small/audit" in again.err
    assert (place / "runs/small/audit/records.jsonl").stat().st_mtime_ns == before
    (place / "small.yaml").write_text(SMALL.replace("n: 6", "n: 7"))
    assert_refused_at_last(suture("run", "small.yaml"), "one with n 6, now 7")


def assert_refused_at_last(answer, piece: str) -> None:
    assert answer.status == 2 and piece in answer.err.splitlines()[-1], answer.err


def test_a_stopped_step_is_gone_on_with(suture: Suture, place: Path):
    assert suture("run", "small.yaml").status == 0
    file = place / "runs/small/audit/run.json"
    info = json.loads(file.read_text()) | {"status": "stopped"}
    file.write_text(json.dumps(info))
    kept = (place / "runs/small/audit/records.jsonl").read_text()
    (place / "runs/small/audit/records.jsonl").unlink()
    assert suture("run", "small.yaml").status == 0
    rows = [
        [(r["label"], r["right"]) for r in map(json.loads, text.splitlines())]
        for text in (kept, (place / "runs/small/audit/records.jsonl").read_text())
    ]
    assert rows[0] == rows[1] and json.loads(file.read_text())["status"] == "finished"


def test_every_run_keeps_the_recipe_that_repeats_it(suture: Suture, place: Path):
    words = ("audit", "net", "--data", "digits", "--n", 6, "--eps", "51/255", "--seed", 3)
    assert suture(*words, "--out", "first").status == 0
    kept = yaml.safe_load((place / "first" / "recipe.yaml").read_text())
    step = {"model": "net", "data": "digits", "n": 6, "eps": 0.2, "seed": 3}
    assert kept == {"suture": 1, "steps": [{"audit": step}]}
    assert suture("run", "first").status == 0
    (second,) = (place / "runs").iterdir()
    rows = [
        [(r["label"], r["right"], r["queries"]) for r in map(json.loads, text.splitlines())]
        for text in ((f / "records.jsonl").read_text() for f in (place / "first", second))
    ]
    assert rows[0] == rows[1]


MISTAKES = [
    ("dta: digits\nsteps:\n  - train: {arch: cnn}\n", ("line 1: the unknown key 'dta'", "data")),
    ("data: digits\n", ("line 1: no steps",)),
    ("data: digits\nsteps: []\n", ("line 2: no step",)),
    ("data: digits\nsteps:\n  - audit\n", ("line 3: something other than a step",)),
    (
        "data: digits\nmodel: net\nsteps:\n  - adit: {n: 5}\n",
        ("line 4: the unknown step 'adit'", "did you mean audit"),
    ),
    (
        "data: digits\nmodel: net\nsteps:\n  - audit:\n      n: 5\n      epps: 8\n",
        ("line 6: the unknown key 'epps'", "did you mean eps"),
    ),
    (
        "data: digits\nmodel: net\nsteps:\n  - audit:\n      n: many\n",
        ("line 5: 'many' for n; expected a whole number",),
    ),
    (
        "data: digits\nmodel: net\nsteps:\n  - repair:\n      method: defensin\n",
        ("line 5: the unknown repair method 'defensin'", "did you mean defensyn"),
    ),
    (
        "model: net\ndata: digits\nsteps:\n  - repair: {progams: 5}\n",
        ("line 4: the unknown key 'progams'", "programs_per_length"),
    ),
    ("data: digits\nsteps:\n  - audit: {}\n", ("line 3: audit without a model",)),
    ("model: net\nsteps:\n  - audit: {n: 5}\n", ("line 3: audit without data",)),
    ("seed: x\nsteps:\n  - train: {arch: cnn}\n", ("line 1: 'x' for seed",)),
    ("suture: 7\nsteps:\n  - train: {arch: cnn}\n", ("line 1: 7 for suture",)),
    ("model: net\ndata: digits\nsteps:\n  - audit: {trust_code: true}\n", ("'trust_code'",)),
    ("data: digits\ndata: mnist\nsteps: []\n", ("'data' again in line 2",)),
    ("data: [\n", ("line 2",)),
    ("\tdata: digits\n", ("line 1",)),
    ("a: &x [1]\nb: *x\n", ("an alias", "line 2")),
    ("a: !!python/object/apply:os.system ['true']\n", ("line 1",)),
    ("just text\n", ("a str",)),
    ("", ("no keys",)),
]


@pytest.mark.parametrize(("text", "pieces"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_named_with_its_line(suture: Suture, place: Path, text: str, pieces):
    answer = suture("run", recipe(place, text))
    assert_refused(answer, *pieces)
    assert not (place / "runs").exists()


def test_three_mistakes_are_told_at_once(suture: Suture, place: Path):
    text = SMALL.replace("{eps:", "{epps:").replace("n: 6", "n: x").replace("export", "exprot")
    answer = suture("run", recipe(place, text))
    assert_refused(answer, "3 mistakes: ", "line 7: the unknown key 'epps'", "line 7: 'x' for n")
    assert "line 8: the unknown step 'exprot' (did you mean export?)" in answer.err


def test_no_such_recipe(suture: Suture, place: Path):
    assert_refused(suture("run", "nowhere.yaml"), "a recipe", "suture init")


@pytest.mark.parametrize("command", STEPS)
def test_keys_are_the_long_options(command: str):
    """What ``--help`` shows is what a recipe takes."""
    from suture.cli.commands import imported

    made = imported(command)
    long = {
        name.removeprefix("--").replace("-", "_")
        for param in made.params
        for name in param.opts
        if name.startswith("--") and name not in ("--trust-code", "--force", "--json", "--resume")
    }
    arguments = {p.name for p in made.params if p.param_type_name == "argument"}
    assert set(options_of(command)) - arguments == long


def test_a_step_and_its_options_are_each_others_inverse():
    values, mistakes = checked("evaluate", {"model": "m", "data": "d", "eot": 3, "curve": False})
    assert not mistakes and values["eot"] == [3]
    step = recipe_of("evaluate", values)
    assert step == {"model": "m", "data": "d", "eot": [3], "curve": False}
    assert checked("evaluate", step) == (values, [])


def test_text_is_read_as_it_was_written(tmp_path: Path):
    content = {"suture": 1, "steps": [{"audit": {"eps": 0.1, "data": "a: b", "set": ["x=1"]}}]}
    (tmp_path / "r.yaml").write_text(written(content, "two\nlines"))
    again, lines = read(tmp_path / "r.yaml")
    assert again == content and lines["steps", 0, "audit", "eps"] > lines["suture",]


def test_a_huge_file_is_refused_or_read_in_part(tmp_path: Path):
    (tmp_path / "r.yaml").write_text("data: digits\n" + "#" * (2 << 20))
    with pytest.raises(ArgumentError, match="no steps"):
        opened(tmp_path / "r.yaml")
