"""Workers are forks of a server without threads that has imported what they need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from suture import forking
from suture.cli import app

ROOT = Path(__file__).parents[1]
PATH = os.pathsep.join(map(str, (ROOT / "src", ROOT)))
linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are spawned")

SCRIPT = """
import json, os, sys
from multiprocessing import forkserver
from pathlib import Path

from suture import forking

if __name__ == "__main__":
    forking.prepare(["suture.attacks"])
    early = "torch" in sys.modules
    from suture.engine import Processes
    from tests.engine import work
    with Processes(2) as engine:
        found = engine.map(work.about_this_process, range(4))
        server = found[0]["parent"]
        status = Path(f"/proc/{server}/status").read_text()
    threads = int(status.split("Threads:")[1].split()[0])
    told = {"early": early, "workers": found, "threads": threads, "own": os.getpid()}
    print(json.dumps(told | {"path": os.environ["PYTHONPATH"]}))
"""


@linux
def test_workers_are_forks_of_a_server_without_threads(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    env = os.environ | {"PYTHONPATH": PATH}
    env.pop("OMP_NUM_THREADS", None)
    done = subprocess.run([sys.executable, script], env=env, check=True, capture_output=True)
    told = json.loads(done.stdout)
    assert not told["early"], "the session was to import torch while the server does"
    assert told["threads"] == 1
    servers = {worker["parent"] for worker in told["workers"]}
    assert len(servers) == 1 and told["own"] not in servers
    assert all(worker["attacks"] for worker in told["workers"]), "imported by the server"
    assert {worker["threads"] for worker in told["workers"]} == {1}
    assert told["path"] == PATH, "the environment is as it was"


def test_the_servers_modules_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", ["", "/elsewhere"])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with forking._own_path():
        assert os.environ["PYTHONPATH"] == f"{Path.cwd()}{os.pathsep}/elsewhere"
    assert "PYTHONPATH" not in os.environ


def test_a_command_with_processes_lets_them_be_prepared(monkeypatch: pytest.MonkeyPatch):
    asked: list[object] = []
    monkeypatch.setattr(forking, "prepare", asked.append)
    app._prepare(["audit", "runs/cnn", "--engine", "inline", "--out", "processes"])
    assert not asked
    app._prepare(["audit", "runs/cnn", "--engine", "processes"])
    app._prepare(["audit", "runs/cnn", "--engine=processes"])
    assert asked == [app._WORK] * 2


@linux
def test_where_the_server_cannot_be_asked_workers_are_spawned(monkeypatch: pytest.MonkeyPatch):
    def gone(*_: object) -> None:
        raise ChildProcessError

    monkeypatch.setattr(forking, "prepare", gone)
    assert forking.context().get_start_method() == "spawn"
