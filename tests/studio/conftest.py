"""A studio over a folder of runs that commands have made of the embedded digits."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from suture.cli import main
from suture.cli.options import Opening

starlette = pytest.importorskip("starlette", reason="needs pip install 'suture[studio]'")


def told(*words: object) -> int:
    """A command in this process; its exit status."""
    before, sys.argv = sys.argv, ["suture", *map(str, words)]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network, the same repaired by programs, and both measured."""
    folder = tmp_path_factory.mktemp("studio") / "runs"
    digits = ("--data", "digits", "--seed", 0)
    assert told("train", "digits_cnn", *digits, "--epochs", 4, "--out", folder / "cnn") == 0
    few = ("--set", "programs_per_length=200", "--set", "max_length=2", "--samples", 40)
    repaired = ("repair", folder / "cnn", *digits, "--eps", 0.1, "--queries", 20, *few)
    assert told(*repaired, "--out", folder / "programs") == 0
    quick = ("--n", 12, "--tier", "quick", "--repeats", 1, "--no-curve", "--protocol", "paper")
    for name, seed in (("one", 0), ("two", 1)):
        given = ("--data", "digits", "--seed", seed, "--queries", 5, *quick)
        given = (*given, "--attack", "square", "--eps", 0.1)
        assert told("evaluate", folder / "programs", *given, "--out", folder / name) == 0
    return folder


@pytest.fixture(scope="session")
def studio(runs: Path):
    """A studio over these runs, whose repairs do not begin anything."""
    from suture.cli.studio import _tools
    from suture.studio.app import Studio
    from suture.studio.shelf import RunShelf

    tools = _tools(Opening(), "")
    idle = dataclasses.replace(tools, command=lambda words: [sys.executable, "-c", "pass"])
    return Studio(RunShelf(runs), idle, str(runs / "programs"), "digits")


@pytest.fixture
def client(studio) -> Iterator[object]:
    """A browser's requests: right host, and the token in front of every path."""
    from starlette.testclient import TestClient

    with TestClient(studio.app(8877), base_url="http://127.0.0.1:8877") as made:
        yield made
