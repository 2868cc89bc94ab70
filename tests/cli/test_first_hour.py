"""Ctrl-C, ``runs watch``, ``doctor``, ``cite``, and own models and pictures on the command line."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import suture as library
from suture import models
from suture.cli import results
from suture.cli.cite import OWN, PAPERS, bibliography
from suture.cli.fields import all_methods
from suture.testing.small import trained
from tests.cli.conftest import Suture
from tests.cli.test_errors import assert_refused

AUDIT = ("--data", "digits", "--eps", "51/255", "--n", 6)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    models.save(trained(), tmp_path / "net")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_tells_what_is_kept_and_the_line_that_goes_on(suture: Suture, place, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(results, "assess", interrupted)
        answer = suture("audit", "net", *AUDIT, "--out", "a run")
    assert answer.status == 130 and answer.out == ""
    first, second = answer.err.splitlines()
    assert first.startswith("stopped; kept in a run: ")
    assert second == "go on with: suture resume 'a run'"
    again = suture(*shlex.split(second.removeprefix("go on with: suture ")))
    assert again.status == 0
    assert json.loads((place / "a run" / "run.json").read_text())["status"] == "finished"


def test_ctrl_c_before_anything_is_begun(suture: Suture, place, monkeypatch):
    monkeypatch.setattr("suture.cli.attack.spread", interrupted)
    answer = suture("attack", "net", *AUDIT)
    assert answer.status == 130 and answer.err.startswith("stopped; nothing was begun")


def test_ctrl_c_in_a_recipe_names_the_recipe(suture: Suture, place, monkeypatch):
    (place / "r.yaml").write_text(
        "folder: runs/r\nmodel: net\ndata: digits\nsteps:\n  - audit: {n: 6}\n"
    )
    monkeypatch.setattr(results, "assess", interrupted)
    answer = suture("run", "r.yaml")
    assert answer.status == 130
    assert answer.err.splitlines()[-1] == "go on with: suture run r.yaml"


@pytest.mark.slow
def test_ctrl_c_from_the_outside(tmp_path: Path):
    """A process of its own, stopped by the signal once an epoch is kept."""
    words = ["train", "digits_cnn", "--data", "digits", "--epochs", "500", "--patience", "0"]
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += f"sys.argv = {['suture', *words, '--out', 'run']!r}\n"
    code += "from suture.cli import main\nmain()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    while not list((tmp_path / "run" / "checkpoints").glob("epoch-*.safetensors")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert re.search(r"kept in run: \d+ epochs\ngo on with: suture resume run\n", err)


def test_watching_a_run_that_is_finished(suture: Suture, place: Path):
    assert suture("audit", "net", *AUDIT, "--out", "run").status == 0
    watched = suture("runs", "watch", "run")
    assert re.fullmatch(r"audit finished, \d+\.\d s\n", watched.out)
    assert suture("runs", "watch", "run", "--json").json["status"] == "finished"
    assert not (place / "run" / "progress.json").exists()


def test_watching_a_run_that_was_killed(suture: Suture, place: Path):
    assert suture("audit", "net", *AUDIT, "--out", "run").status == 0
    info = json.loads((place / "run/run.json").read_text()) | {"status": "running"}
    (place / "run/run.json").write_text(json.dumps(info))
    (place / "run/progress.json").write_text('{"stage": "search", "done": 3, "total": 9}')
    out = suture("runs", "watch", "run").out
    assert "audit killed, search 3/9" in out and "suture resume run" in out


def test_the_doctor_says_how_to_mend(suture: Suture, place, monkeypatch):
    monkeypatch.setattr("suture.cli.doctor.find_spec", lambda name: None)
    found = suture("doctor", "--json").json
    assert {one["group"] for one in found["findings"]} == {
        "install", "devices", "extras", "data", "threads"
    }  # fmt: skip
    by_name = {one["name"]: one for one in found["findings"]}
    assert by_name["timm"]["remedy"] == "pip install 'suture[timm]'"
    assert by_name["torch"]["found"].startswith(torch.__version__.split("+")[0])
    for one in found["findings"]:
        assert (one["state"] == "ok") == (one["remedy"] == "") or one["name"].startswith("cuda")
    assert "→ pip install 'suture[ray]'" in suture("doctor").out


def test_a_problem_is_counted(suture: Suture, place, monkeypatch):
    monkeypatch.setattr("suture.cli.doctor._cores", lambda: 0)
    answer = suture("doctor", "--json").json
    assert answer["problems"] >= 1
    (threads,) = [one for one in answer["findings"] if one["group"] == "threads"]
    assert threads["state"] == "problem" and "OMP_NUM_THREADS" in threads["remedy"]


def test_every_method_has_its_papers():
    assert set(PAPERS) | set(OWN) == set(all_methods())
    entries = bibliography()
    used = {key for keys in PAPERS.values() for key in keys} | {"suture", "athalye2018obfuscated"}
    assert used == set(entries)
    for key, entry in entries.items():
        assert entry.startswith("@") and f"{{{key}," in entry and entry.endswith("}")
        assert entry.count("{") == entry.count("}") and "author = {" in entry


def test_cite(suture: Suture, place):
    out = suture("cite", "defensyn", "square").out
    assert re.findall(r"^@\w+\{([\w-]+),", out, re.M) == [
        "suture", "yuviler-defensyn", "andriushchenko2020square", "croce2021l1"
    ]  # fmt: skip
    assert f"version = {{{library.__version__}}}" in out
    assert suture("audit", "net", *AUDIT, "--out", "run").status == 0
    assert "andriushchenko2020square" in suture("cite", "run", "--json").json["entries"]


class Bare(nn.Module):
    """A network that wants pixels in 0 … 255."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = trained()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x / 255 + 0.0 * x.abs().clamp(max=1))


def test_normalisation_outside_is_suspected_and_can_be_said(suture: Suture, place: Path):
    free = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(Bare().eval(), (torch.rand(2, 1, 8, 8),), dynamic_shapes=free)
    torch.export.save(program, place / "bare.pt2")
    words = ("bare.pt2", "--data", "digits", "--n", 30, "--json", "--queries", 1)
    said = "is the network's normalisation outside the model?"
    plain, right = suture("attack", *words), suture("attack", *words, "--range", "0-255")
    assert said in plain.err and "(--range 0-255)" in plain.err and said not in right.err
    assert right.json["clean_accuracy"] > 90 > plain.json["clean_accuracy"]


def test_the_page_keeps_the_suspicion(suture: Suture, place: Path, monkeypatch):
    monkeypatch.setattr(models, "suspicion", lambda *_: "pixels seem odd")
    assert "note: pixels seem odd.\n" in suture("audit", "net", *AUDIT, "--out", "run").err
    assert "pixels seem odd." in (place / "run" / "report.html").read_text()


def test_a_bundle_of_own_code_needs_no_trust(suture: Suture, place: Path):
    (place / "mine.py").write_text(
        "from torch import nn\n\n\ndef make():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    words = ("export", "mine:make", "--data", "digits", "--to", "bundle", "--out", "own")
    assert_refused(suture(*words), "--trust-code")
    assert suture(*words, "--trust-code", "--mean", 0.3, "--std", "0.4").status == 0
    (place / "mine.py").unlink()
    model = library.load("own")
    assert tuple(model(torch.rand(3, 1, 8, 8)).shape) == (3, 10)


def test_pictures_of_several_sizes(suture: Suture, place: Path):
    for name in ("ant", "bee"):
        (place / "pictures" / name).mkdir(parents=True)
        for index in range(5):
            pixels = np.full((8 + index, 9), 40 * index, dtype=np.uint8)
            Image.fromarray(pixels, "L").save(place / "pictures" / name / f"{index}.png")
    shown = suture("data", "show", "pictures", "--size", "8x8", "--json")
    assert shown.json["in_shape"] == [1, 8, 8]
    audited = suture("audit", "net", "--data", "pictures", "--size", 8, "--n", 2, "--out", "run")
    assert audited.status == 0
    assert json.loads((place / "run" / "run.json").read_text())["options"]["size"] == "8"
