"""A slice of ``make fuzz``, and that the fuzzer finds what it looks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fuzz import box, run, seeds
from tests.fuzz.mutate import mutated


@pytest.mark.slow
def test_only_our_own_errors_come_out():
    ends, bad = run.fuzz(700, 1)
    assert bad == []
    assert ends["refused"] > 300 and ends["read"] > 50, (
        "mutations are neither all wrong nor all right"
    )


def test_mutations_can_be_repeated_and_change_something():
    whole = {"a.json": b'{"x": [1, 2, "three"]}', "b.bin": bytes(range(200))}
    made = [mutated(whole, np.random.default_rng(seed)) for seed in range(50)]
    assert made == [mutated(whole, np.random.default_rng(seed)) for seed in range(50)]
    assert sum(files != whole for files in made) > 45


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(seeds.KINDS, "toy", lambda: {"toy.txt": b"hello"})
    guard = box.Guard(tmp_path / "box")

    def attempt(target):
        monkeypatch.setitem(box.TARGETS, "toy", target)
        return box.attempt("toy", 0, tmp_path / "box" / "in", guard)

    yield attempt
    guard.active = False


def test_the_box_sees_what_it_looks_for(yard, tmp_path: Path):
    import pickle

    assert yard(lambda folder: (folder / "toy.txt").read_text())["end"] == "read"
    wrong = yard(lambda folder: 1 / 0)
    assert wrong["end"] == "bug" and "ZeroDivisionError" in wrong["trace"]
    stray = yard(lambda folder: (tmp_path / "stray").write_text("x"))
    assert stray["end"] == "bug" and "outside of the folder" in stray["trace"]
    assert not (tmp_path / "stray").exists(), "it was refused"
    escape = yard(lambda folder: (folder / ".." / ".." / "stray").write_text("x"))
    assert escape["end"] == "bug"
    assert yard(lambda folder: pickle.loads(pickle.dumps(Path)))["end"] == "bug"
    assert yard(lambda folder: (folder / "own").write_text("x"))["end"] == "read"
