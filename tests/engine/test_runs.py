"""Run folders and atomic files: whole or not there."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
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
    """What lies in a folder, less the locks of the runs in it."""
    return sorted(path.name for path in folder.rglob("*") if path.name != ".lock")


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


HOLD = """
import sys, time
from pathlib import Path
from suture.engine import Run
run = Run.create(Path(sys.argv[1]), kind="test", title="t", command="c", seed=0, options={})
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_refused_and_a_dead_one_is_taken_over(tmp_path: Path):
    given = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(given, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert Run.open(tmp_path / "run").state == "running"
        for attempt in (
            lambda: Run.again(tmp_path / "run"),
            lambda: make(tmp_path / "run", replace=True),
            lambda: Run.open(tmp_path / "run").remove(),
        ):
            with pytest.raises(StorageError, match=f"in use by process {other.pid} on"):
                attempt()
        other.kill()
    assert Run.open(tmp_path / "run").state == "killed"
    run = Run.again(tmp_path / "run")
    assert run.state == "running" and len(run.info["resumed"]) == 1
    run.finish()
    assert Run.open(tmp_path / "run").state == "finished"
    assert not (tmp_path / "run" / ".lock").exists()


def test_only_a_stopped_run_of_a_command_can_be_gone_on_with(tmp_path: Path):
    make(tmp_path / "plain")
    with pytest.raises(BundleError, match="not by a command"):
        Run.again(tmp_path / "plain")
    options = {"title": "A test", "command": "suture test", "seed": 3, "options": {"a": 1}}
    run = Run.create(tmp_path / "done", kind="test", **options)
    run.finish()
    with pytest.raises(BundleError, match="one that is finished"):
        Run.again(tmp_path / "done")
    run.info["status"], run.info["versions"]["torch"] = "stopped", "1.0"
    storage.write_json(tmp_path / "done" / "run.json", run.info)
    with pytest.raises(BundleError, match=r"torch 1\.0; got torch"):
        Run.again(tmp_path / "done")


def test_an_older_schema_says_so(tmp_path: Path):
    (tmp_path / "run.json").write_text('{"schema": 0}')
    with pytest.raises(BundleError, match=r"schema 0, of an older suture.*version of suture"):
        Run.open(tmp_path)


@pytest.mark.parametrize("field", ["kind", "title", "status", "parts", "versions"])
def test_fields_of_another_type_are_refused(tmp_path: Path, field: str):
    (tmp_path / "run.json").write_text(json.dumps({"schema": 1, field: 7}))
    with pytest.raises(BundleError, match="got int"):
        Run.open(tmp_path)


def test_removing_spares_what_is_not_sutures(tmp_path: Path):
    run = make(tmp_path / "run")
    (run.folder / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"got notes.txt.*--force"):
        run.remove()
    run.remove(force=True)
    assert not run.folder.exists()


def test_ctrl_c_leaves_a_run_that_can_be_gone_on_with(tmp_path: Path):
    options = {"title": "A test", "command": "suture test", "seed": 3, "options": {"a": 1}}
    for error, left in ((KeyboardInterrupt, "stopped"), (MemoryError, "failed")):
        run = Run.create(tmp_path / left, kind="test", **options)
        with pytest.raises(error), run:
            raise error
        assert Run.open(run.folder).state == left
        Run.again(run.folder).finish()


def test_a_folder_without_permission_is_one_clear_error(tmp_path: Path, monkeypatch):
    # Root may write anywhere: the refusal is simulated where the folder's mode does not refuse.
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    if os.access(locked, os.W_OK):
        refuse = OSError(errno.EACCES, os.strerror(errno.EACCES))
        monkeypatch.setattr(Path, "mkdir", _raising(refuse))
    with pytest.raises(StorageError, match="Permission denied.*--out"):
        make(locked / "run")
    monkeypatch.undo()
    locked.chmod(0o755)
    make(locked / "run").finish()


def test_a_read_only_file_system_is_one_clear_error(tmp_path: Path, monkeypatch):
    run = make(tmp_path / "run")
    error = OSError(errno.EROFS, os.strerror(errno.EROFS))
    monkeypatch.setattr(Path, "replace", _raising(error))
    with pytest.raises(StorageError, match="Read-only file system"):
        run.write_records([{"a": 1}])
    monkeypatch.undo()
    run.write_records([{"a": 1}])
    assert names(run.folder) == ["records.jsonl", "run.json"]


def _raising(error: Exception):
    def refuse(*_: object, **__: object) -> None:
        raise error

    return refuse
