"""A run is a folder: what was done, with what, and everything that came out of it.

``run.json`` (what, options, seed, versions, hardware, ``repr`` of every part), ``records.jsonl``,
``artifacts/``, ``checkpoints/``, ``report.html``. Every file is written atomically, so that a
killed run leaves only whole files. While a process works on a run it holds the run's lock.
"""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from suture.engine import locks
from suture.engine.ledger import FILE, Ledger
from suture.errors import BundleError, EngineError, StorageError
from suture.provenance import library_versions, machine
from suture.storage import storage_errors, sweep, write_json, write_text

SCHEMA = 1
RECIPE = "recipe.yaml"
"""The recipe that repeats the command that began a run."""
PROGRESS = "progress.json"
"""How far a run is, for ``suture runs watch``."""
FINISHED, INCOMPLETE = "finished", "incomplete"
_MATTER = ("suture", "torch", "torchvision", "numpy", "numba")
_MAY_PASS = (KeyboardInterrupt, SystemExit, StorageError, EngineError, MemoryError)
_OWN = {
    "run.json",
    "records.jsonl",
    "rows.jsonl",
    "failures.jsonl",
    "report.html",
    RECIPE,
    PROGRESS,
    "artifacts",
    "checkpoints",
    locks.FILE,
}


@dataclass
class Run:
    """One execution, on disk. Make one with ``Run.create`` or ``Run.open``.

    Attributes:
        folder: where it lives.
        info: the content of ``run.json``.
    """

    folder: Path
    info: dict[str, Any]
    _started: float = field(default_factory=time.monotonic, repr=False)

    @staticmethod
    def create(
        folder: Path,
        *,
        kind: str,
        title: str,
        command: str,
        seed: int,
        parts: dict[str, str] | None = None,
        options: dict[str, Any] | None = None,
        replace: bool = False,
    ) -> Run:
        """Start a run in a new or empty folder, and lock it.

        Args:
            options: the command's parsed options, ready for JSON: what ``suture resume`` repeats.
            replace: remove an earlier run of that kind which is in the way.

        Raises:
            StorageError: the folder holds something else, is in use, or cannot be written.
        """
        folder = Path(folder)
        with storage_errors(folder):
            made = not folder.exists()
            _check_room(folder, kind if replace else None)
            locks.acquire(folder)
        try:
            with storage_errors(folder):
                _make_room(folder)
            run = Run(folder, _facts(kind, title, command, seed, parts, options))
            run._save()
        except BaseException:
            locks.release(folder)
            if made:
                with suppress(OSError):
                    folder.rmdir()
            raise
        return run

    @staticmethod
    def again(folder: Path) -> Run:
        """Lock a stopped run, to go on with it.

        Raises:
            BundleError: no run there, one of an older schema, one that is finished, or one that
                other versions of the libraries have begun (results would not be the same).
            StorageError: another process works on it.
        """
        run = Run.open(folder)
        _check_resumable(run)
        locks.acquire(run.folder)
        sweep(run.folder)
        run.info["status"] = "running"
        run.info["resumed"] = [*run.info.get("resumed", []), _now()]
        run._save()
        return run

    @staticmethod
    def open(folder: Path, *, lock: bool = False) -> Run:
        """Read an existing run; refuses another schema.

        Args:
            lock: for writing; refused while another process works on it.

        Raises:
            BundleError: no run there, an altered ``run.json``, or one of another version.
            StorageError: another process works on it.
        """
        path = Path(folder) / "run.json"
        try:
            info = json.loads(path.read_text(encoding="utf-8"))
            found = info["schema"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BundleError(
                expected=f"a run folder with a readable {path}",
                got=f"{type(error).__name__}: {error}",
                remedy="Name a folder that a suture command has written.",
            ) from None
        if found != SCHEMA:
            older = isinstance(found, int) and found < SCHEMA
            raise BundleError(
                expected=f"a run of schema {SCHEMA}",
                got=f"schema {found!r}, of {'an older' if older else 'another'} suture",
                remedy="Open it with the version of suture named in its run.json.",
            )
        _check_form(path, info)
        if lock:
            locks.acquire(Path(folder))
        return Run(Path(folder), info)

    @property
    def artifacts(self) -> Path:
        """Where models, programs, images and certificates of the run are kept."""
        return self.folder / "artifacts"

    @property
    def records(self) -> Path:
        """The records, one JSON object a line."""
        return self.folder / "records.jsonl"

    @property
    def ledger(self) -> Ledger:
        """Finished pieces of work, until the run is finished."""
        return Ledger(self.folder / "checkpoints" / "pieces")

    @property
    def state(self) -> str:
        """Its status; a run that says "running" but that nobody works on was "killed"."""
        status = str(self.info.get("status"))
        return "killed" if status == "running" and locks.holder(self.folder) is None else status

    def remove(self, *, force: bool = False) -> None:
        """Delete the run's folder.

        Args:
            force: also what suture has not written there.

        Raises:
            StorageError: it is in use, or holds something else.
        """
        others = sorted({path.name for path in self.folder.iterdir()} - _OWN)
        if others and not force:
            raise StorageError(
                expected=f"nothing but a run in {self.folder}",
                got=f"{others[0]}" + (f" and {len(others) - 1} more" if others[1:] else ""),
                remedy="Move it elsewhere, or delete it too with --force.",
            )
        locks.acquire(self.folder)
        try:
            with storage_errors(self.folder):
                shutil.rmtree(self.folder)
        finally:
            locks.release(self.folder)

    def note_parts(self, **parts: object) -> None:
        """Add the ``repr`` of parts that became known during the run."""
        self.info["parts"].update({name: str(part) for name, part in parts.items()})
        self._save()

    def write_records(self, records: list[dict[str, Any]]) -> None:
        """Write all records at once, replacing the file."""
        lines = [json.dumps(r, ensure_ascii=False, allow_nan=False) for r in records]
        write_text(self.records, "".join(line + "\n" for line in lines))

    def finish(self, status: str = "finished") -> None:
        """Mark the run as ended, note its duration in seconds, and give its lock back."""
        before = self.info.get("seconds", 0.0) if self.info.get("resumed") else 0.0
        self.info["status"], self.info["finished"] = status, _now()
        self.info["seconds"] = round(before + time.monotonic() - self._started, 3)
        self._save()
        self.ledger.clear()
        (self.folder / PROGRESS).unlink(missing_ok=True)
        locks.release(self.folder)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leave a failed run ready to be resumed; a mistake with nothing to show is removed."""
        if kind is None:
            return
        with suppress(OSError, StorageError):
            if self.info["status"] != INCOMPLETE:
                self.info["status"] = "stopped" if kind is KeyboardInterrupt else "failed"
            spent = time.monotonic() - self._started
            self.info["seconds"] = round(self.info.get("seconds", 0.0) + spent, 3)
            known = issubclass(kind, _MAY_PASS) or self.info.get("resumed")
            if not known and self._is_empty():
                shutil.rmtree(self.folder)
            else:
                self._save()
        locks.release(self.folder)

    def _is_empty(self) -> bool:
        """Whether nothing has come out of it yet."""
        known = {"run.json", RECIPE, PROGRESS, locks.FILE, FILE}
        return all(path.name in known or path.is_dir() for path in self.folder.rglob("*"))

    def _save(self) -> None:
        write_json(self.folder / "run.json", self.info)


def _facts(
    kind: str,
    title: str,
    command: str,
    seed: int,
    parts: dict[str, str] | None,
    options: dict[str, Any] | None,
) -> dict[str, Any]:
    """The content of a new ``run.json``."""
    return {
        "schema": SCHEMA,
        "kind": kind,
        "title": title,
        "command": command,
        "options": options,
        "seed": seed,
        "created": _now(),
        "status": "running",
        "parts": dict(parts or {}),
        "versions": dict(library_versions()),
        "hardware": dict(machine()),
    }


def _check_form(path: Path, info: Any) -> None:
    """Fields have the types that readers count on."""
    kinds = {"kind": str, "title": str, "status": str, "parts": dict, "versions": dict}
    wrong = [key for key, kind in kinds.items() if not isinstance(info.get(key, kind()), kind)]
    if wrong:
        raise BundleError(
            expected=f"{wrong[0]!r} in {path} as {kinds[wrong[0]].__name__}",
            got=type(info[wrong[0]]).__name__,
            remedy="The file was altered: restore it, or run the command again.",
        )


def _check_resumable(run: Run) -> None:
    info, started = run.info, run.info.get("versions", {})
    if not isinstance(info.get("options"), dict):
        raise BundleError(
            expected=f"the options of the command that began {run.folder}",
            got="none: it was made by an older suture, or not by a command",
            remedy="Run its command again; `suture runs show` prints it.",
        )
    if info.get("status") == FINISHED:
        raise BundleError(
            expected="a run that was stopped",
            got="one that is finished",
            remedy="There is nothing left to do; run its command with --force to begin anew.",
        )
    now = library_versions()
    other = [name for name in _MATTER if started.get(name) != now.get(name)]
    if other:
        names = ", ".join(f"{name} {started.get(name)}" for name in other)
        raise BundleError(
            expected=f"the libraries that began the run: {names}",
            got=", ".join(f"{name} {now.get(name)}" for name in other),
            remedy="Results would differ within one run: install those, or begin a new run.",
        )


def _check_room(folder: Path, replaceable: str | None) -> None:
    """Accept a new or empty folder, or a run of the replaceable kind."""
    if not folder.is_dir() or {path.name for path in folder.iterdir()} <= {locks.FILE}:
        return
    if replaceable is None or _kind(folder) != replaceable:
        raise StorageError(
            expected=f"a new or empty folder at {folder}",
            got="an earlier run" if _kind(folder) else "something else that is in the way",
            remedy="Choose another folder with --out, replace a run of this kind with --force, "
            "or go on with a stopped one: suture resume.",
        )


def _make_room(folder: Path) -> None:
    """Remove an earlier run's files, and leave what is not suture's."""
    for name in sorted(_OWN - {locks.FILE}):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _kind(folder: Path) -> str | None:
    """The kind of run that a folder holds, if it holds one."""
    try:
        return str(Run.open(folder).info.get("kind"))
    except BundleError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
