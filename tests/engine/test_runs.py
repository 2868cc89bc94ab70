"""Run folders and atomic files: whole or not there."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from suture import storage
from suture.engine import Run
from suture.errors import BundleError, StorageError


def make(folder: Path, kind: str = "test", replace: bool = False) -> Run:
    given = {"title": "A test", "command": "suture test", "seed": 3, "replace": replace}
    return Run.create(folder, kind=kind, **given)


def test_a_run_can_be_read_back(tmp_path: Path):
    run = make(tmp_path / "run")
    run.note_parts(model="cnn", attack="PGD()")
    run.write_records([{"a": 1}, {"a": 2}])
    run.finish()
    info = Run.open(tmp_path / "run").info
    assert info["parts"] == {"model": "cnn", "attack": "PGD()"}
    assert info["status"] == "finished" and info["seconds"] >= 0 and info["seed"] == 3
    assert {"torch", "numpy", "suture"} <= set(info["versions"])
    assert [json.loads(line)["a"] for line in run.records.read_text().splitlines()] == [1, 2]


def test_only_a_run_of_the_same_kind_is_replaced(tmp_path: Path):
    run = make(tmp_path / "run")
    run.write_records([{"a": 1}])
    run.artifacts.mkdir()
    (run.artifacts / "old").write_text("x")
    with pytest.raises(StorageError, match="an earlier run.*--force"):
        make(tmp_path / "run")
    with pytest.raises(StorageError, match="an earlier run"):
        make(tmp_path / "run", kind="other", replace=True)
    assert run.records.exists()
    make(tmp_path / "run", replace=True)
    assert names(tmp_path / "run") == ["run.json"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(StorageError, match="something else that is in the way"):
        make(tmp_path / "thesis", replace=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        make(tmp_path / "file")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"schema": 99}', "\x00"])
def test_broken_runs_are_refused(tmp_path: Path, content: str):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(BundleError):
        Run.open(tmp_path)


def test_a_missing_run_is_refused(tmp_path: Path):
    with pytest.raises(BundleError, match="FileNotFoundError"):
        Run.open(tmp_path / "nowhere")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    target = tmp_path / "file.json"
    storage.write_json(target, {"old": 1})
    with pytest.raises(ValueError, match="not JSON compliant|Out of range"):
        storage.write_json(target, {"new": float("nan")})
    with pytest.raises(RuntimeError), storage.atomic_file(target) as path:
        path.write_text("half")
        raise RuntimeError("stopped in the middle")
    assert json.loads(target.read_text()) == {"old": 1}
    assert names(tmp_path) == ["file.json"]


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device.*--out"):
        storage.write_text(tmp_path / "file.txt", "text")
    with (
        pytest.raises(StorageError, match="No space left"),
        storage.atomic_folder(tmp_path / "d") as d,
    ):
        (d / "a").write_text("a")
    assert names(tmp_path) == []


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path):
    target = tmp_path / "folder"
    with storage.atomic_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    with pytest.raises(RuntimeError), storage.atomic_folder(target) as folder:
        (folder / "a").write_text("2")
        raise RuntimeError("stopped in the middle")
    assert (target / "a").read_text() == "1"
    with storage.atomic_folder(target) as folder:
        (folder / "b").write_text("3")
    assert names(tmp_path) == ["b", "folder"]


def test_a_path_through_a_file_is_one_clear_error(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="to be able to write"):
        storage.write_text(tmp_path / "file" / "below.txt", "text")


def test_a_run_that_fails_says_so_or_leaves_nothing(tmp_path: Path):
    with pytest.raises(RuntimeError), make(tmp_path / "empty"):
        raise RuntimeError("at once")
    assert names(tmp_path) == []
    with pytest.raises(RuntimeError), make(tmp_path / "half") as run:
        run.write_records([{"a": 1}])
        raise RuntimeError("later")
    assert Run.open(tmp_path / "half").info["status"] == "failed"
