"""Runs survive: other engines, lost nodes, and kill -9 at any moment give the same bits."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from suture import cli, models
from suture.cli import common
from suture.engine import Inline, Processes, Ray, Run
from suture.testing.small import trained
from tests.engine import survival
from tests.engine.work import marked, node_of

KILLS = 5
WORK = {
    "synthesis": survival.synthesis,
    "patches": survival.patches,
    "audit": survival.audit,
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("inline")
    return {name: work(folder / name, Inline()) for name, work in WORK.items()}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_processes_gives_the_same_bits(expected, tmp_path: Path, workers: int):
    with Processes(workers) as engine:
        for name, work in WORK.items():
            assert work(tmp_path / name, engine) == expected[name], name


class Marked(Ray):
    """Items show on which node they are under way."""

    folder: Path

    def run(self, fn, calls):
        return super().run(partial(marked, self.folder, fn), calls)


def kill_when_at_work(cluster, node, markers: Path) -> None:
    """Kill a node in the middle of an item."""
    (markers / f"doomed-{node.node_id}").touch()
    while not (markers / f"working-{node.node_id}").exists():
        time.sleep(0.01)
    cluster.remove_node(node, allow_graceful=False)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is missing: pip install 'suture[ray]'"
)
def test_a_cluster_that_loses_a_node_gives_the_same_bits(expected, tmp_path: Path, monkeypatch):
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    lost: list[str] = []
    original = Ray._lost
    monkeypatch.setattr(
        Ray, "_lost", lambda self, job, error: lost.append(type(error).__name__)
        or original(self, job, error),
    )  # fmt: skip
    markers = tmp_path / "markers"
    markers.mkdir()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        for name, work in WORK.items():
            doomed = [cluster.add_node(num_cpus=1)]
            cluster.wait_for_nodes()

            def kill_a_node(stage: str, done: int, total: int, doomed=doomed) -> None:
                if doomed and done >= 2 and total > 4:
                    Thread(target=kill_when_at_work, args=(cluster, doomed.pop(), markers)).start()

            before = len(lost)
            with Marked() as engine:
                engine.folder = markers
                while len(set(engine.map(node_of, range(8)))) < 2:
                    pass  # until both nodes have started a worker
                assert work(tmp_path / name, engine, kill_a_node) == expected[name], name
            assert not doomed and len(lost) > before, "a running item went down with its node"
    finally:
        ray.shutdown()
        cluster.shutdown()


def command(arguments: list[str], folder: str) -> None:
    """The command line in a process of its own, without its output."""
    os.chdir(folder)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    sys.argv = ["suture", *arguments]
    from suture.cli import main

    main()


def result_of(name: str, folder: Path) -> dict:
    return survival.repaired(folder) if name == "repair" else survival.audited(folder)


def arguments(name: str, out: str, engine: str) -> list[str]:
    given = ["model", "--data", "digits", "--eps", "0.2", "--seed", "5", "--out", out]
    given += ["--engine", engine, "--batch-size", "10"]
    if name == "audit":
        return ["audit", *given, "--n", "20"]
    return ["repair", *given, "--norm", "linf", "--queries", "100", "--samples", "100", "--k", "5",
            "--programs", "60000", "--max-length", "3", "--temperature", "20"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["repair", "audit"])
def test_kill_9_at_random_moments_loses_nothing(name: str, tmp_path: Path):
    """Ten moments over both commands, each followed by ``suture resume``, each the same bits."""
    models.save(trained(), tmp_path / "model")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["suture.cli", "tests.engine.test_survival"])

    def start(*given: str):
        process = context.Process(target=command, args=(list(given), str(tmp_path)))
        process.start()
        return process

    def finish(*given: str) -> int | None:
        process = start(*given)
        process.join(120)
        return process.exitcode

    assert finish(*arguments(name, "warm", "inline")) == 0, "compiles what is compiled once"
    assert finish(*arguments(name, "whole", "inline")) == 0
    took = Run.open(tmp_path / "whole").info["seconds"]
    wanted = result_of(name, tmp_path / "whole")
    moments = np.random.default_rng(11).uniform(0.0, 0.95, KILLS) * took
    resumed = 0
    for number, moment in enumerate(moments):
        out, engine = f"run{number}", "processes" if number == 0 else "inline"
        process = start(*arguments(name, out, engine))
        while process.exitcode is None and not (tmp_path / out / "run.json").exists():
            time.sleep(0.01)
        process.join(float(moment) + (2.0 if engine == "processes" else 0.0))
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        if Run.open(tmp_path / out).state != "finished":
            assert Run.open(tmp_path / out).state == "killed"
            assert finish("resume", out, "--engine", "inline") == 0
            resumed += 1
        assert result_of(name, tmp_path / out) == wanted, (number, moment)
        assert json.loads((tmp_path / out / "run.json").read_text())["status"] == "finished"
        left = [p.name for p in (tmp_path / out).rglob("*") if p.name.endswith((".tmp", ".lock"))]
        assert left == []
    assert resumed >= KILLS - 2, "most moments lie within the run"


def limited_command(arguments: list[str], folder: str, most: int) -> None:
    """The command line where no file may grow beyond so many bytes: a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    os.chdir(folder)
    sys.argv = ["suture", *arguments]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            common.stderr.file = said
            cli.main()
        finally:
            Path(folder, "said").write_text(said.getvalue()[-2000:])


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_it_goes_on_afterwards(tmp_path: Path):
    models.save(trained(), tmp_path / "model")
    context = multiprocessing.get_context("forkserver")

    def finish(target, *given) -> int | None:
        process = context.Process(target=target, args=given)
        process.start()
        process.join(120)
        return process.exitcode

    short = arguments("audit", "run", "inline")
    assert finish(limited_command, short, str(tmp_path), 6_000) == 2
    said = (tmp_path / "said").read_text()
    assert "expected to be able to write" in said and "free space" in said
    assert Run.open(tmp_path / "run").state == "failed"
    assert finish(command, ["resume", "run"], str(tmp_path)) == 0
    assert finish(command, arguments("audit", "whole", "inline"), str(tmp_path)) == 0
    assert survival.audited(tmp_path / "run") == survival.audited(tmp_path / "whole")
