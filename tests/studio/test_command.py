"""``suture studio`` itself: its address, a repair from beginning to end, Ctrl-C."""

from __future__ import annotations

import http.client
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from suture.engine import Run
from suture.errors import ArgumentError, DependencyError
from suture.studio.background import RepairOrder
from suture.studio.server import listening, needed

CODE = "from suture.cli import main; main()"


class Address:
    """A running studio, asked as its own page would ask."""

    def __init__(self, url: str) -> None:
        self.url = urlsplit(url)

    def ask(self, how: str, path: str, /, **form: str) -> tuple[int, dict[str, str], str]:
        """``(status, headers, body)``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.url.port, timeout=60)
        head = {"Origin": f"http://{self.url.netloc}"}
        head |= {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        body = urlencode(form) if how == "POST" else None
        connection.request(how, self.url.path + path, body, head)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()

    def until(self, name: str, wanted: str, seconds: float = 120) -> dict:
        """The progress of a run once it has that status."""
        limit = time.monotonic() + seconds
        while True:
            _, _, body = self.ask("GET", f"progress?run={name}")
            told = json.loads(body)
            if told["status"] == wanted and (wanted == "running" or not told["live"]):
                return told
            assert time.monotonic() < limit, told
            time.sleep(0.2)


@pytest.fixture
def started(runs: Path, tmp_path: Path):
    """A studio of its own process, ended as Ctrl-C ends it."""
    own = tmp_path / "runs"
    own.mkdir()
    (own / "cnn").symlink_to(runs / "cnn")
    words = [sys.executable, "-c", CODE, "studio", str(own), "--port", "0", "--json"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(words, text=True, env=env, **pipes)
    assert process.stdout is not None
    address = json.loads(process.stdout.readline())["url"]
    yield process, Address(address)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait(30)


@pytest.mark.slow
def test_a_repair_from_the_form_to_the_finished_run(started, tmp_path):
    process, address = started
    form = {"model": str(tmp_path / "runs" / "cnn"), "data": "digits", "method": "pgd-training"}
    status, headers, body = address.ask(
        "POST", "repair", **form, name="robust", eps="0.1", settings="epochs=1"
    )
    assert status == 303, body
    assert headers["location"].endswith("/run?run=robust")
    told = address.until("robust", "finished")
    assert "model:" in told["log"]
    run = Run.open(tmp_path / "runs" / "robust")
    assert (run.info["kind"], run.info["options"]["eps"]) == ("repair", 0.1)
    assert (run.folder / "recipe.yaml").is_file()
    assert address.ask("GET", "report?run=robust")[0] == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err.strip()) == (0, "studio ended")
    assert out == ""


@pytest.mark.slow
def test_a_stopped_repair_is_gone_on_with(started, tmp_path):
    _, address = started
    form = {"model": str(tmp_path / "runs" / "cnn"), "data": "digits", "method": "pgd-training"}
    address.ask("POST", "repair", **form, name="long", eps="0.1", settings="epochs=40")
    address.until("long", "running")
    assert address.ask("POST", "stop", run="long")[0] == 303
    run = Run.open(tmp_path / "runs" / "long")
    assert run.state == "stopped"
    page = address.ask("GET", "run?run=long")[2]
    assert "Go on" in page
    assert address.ask("POST", "resume", run="long")[0] == 303
    address.until("long", "finished")


def test_a_port_in_use_is_said_so(suture_says):
    with listening(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ArgumentError, match=f"port {port}, which is in use"):
            listening(port)
        assert taken.getsockname()[0] == "127.0.0.1"
    assert "a port from 0 to 65535" in suture_says("studio", "--port", "70000")


def test_a_missing_extra_is_said_so(monkeypatch, suture_says):
    real = importlib.import_module

    def absent(name: str, *rest: object):
        if name == "uvicorn":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(DependencyError, match=r"pip install 'suture\[studio\]'"):
        needed()


@pytest.fixture
def suture_says(capsys):
    """What a command that fails says."""
    from .conftest import told

    def says(*words: str) -> str:
        assert told(*words) == 2
        return capsys.readouterr().err

    return says


def test_an_order_is_a_command_line_that_no_value_can_escape():
    order = RepairOrder("--help", "-x", "pgd-training", "n", "0.1", "", ("a=--out", "-b=1"), "3")
    assert order.words(Path("runs/n")) == [
        "repair",
        "--out=runs/n",
        "--data=-x",
        "--method=pgd-training",
        "--seed=3",
        "--eps=0.1",
        "--set=a=--out",
        "--set=-b=1",
        "--",
        "--help",
    ]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("{runs}", ("{runs}", "", "")),
        ("{runs}/programs", ("{runs}", "{runs}/programs", "digits")),
        ("{runs}/one", ("{runs}", "{runs}/programs", "digits")),
        ("net.onnx", ("runs", "net.onnx", "")),
    ],
)
def test_what_an_argument_stands_for(runs, what, expected):
    from suture.cli.studio import _place

    folder, model, data = _place(what.format(runs=runs))
    assert (str(folder), model, data) == tuple(one.format(runs=runs) for one in expected)
