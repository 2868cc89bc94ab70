"""A run is a folder: what was done, with what, and everything that came out of it.

``run.json`` (what, seed, versions, hardware, ``repr`` of every part), ``records.jsonl``,
``artifacts/``, ``checkpoints/``, ``report.html``. Every file is written atomically, so that a
killed run leaves only whole files.
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

from suture.errors import BundleError, StorageError
from suture.provenance import library_versions, machine
from suture.storage import storage_errors, write_json, write_text

SCHEMA = 1


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
        replace: bool = False,
    ) -> Run:
        """Start a run in a new or empty folder.

        Args:
            replace: remove an earlier run of that kind which is in the way.

        Raises:
            StorageError: the folder holds something else, or cannot be written.
        """
        folder = Path(folder)
        with storage_errors(folder):
            _make_room(folder, kind if replace else None)
        info: dict[str, Any] = {
            "schema": SCHEMA,
            "kind": kind,
            "title": title,
            "command": command,
            "seed": seed,
            "created": _now(),
            "status": "running",
            "parts": dict(parts or {}),
            "versions": library_versions(),
            "hardware": machine(),
        }
        run = Run(folder, info)
        run._save()
        return run

    @staticmethod
    def open(folder: Path) -> Run:
        """Read an existing run; refuses another schema.

        Raises:
            BundleError: no run there, an altered ``run.json``, or one of another version.
        """
        path = Path(folder) / "run.json"
        try:
            info = json.loads(path.read_text(encoding="utf-8"))
            found = info["schema"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(
                expected=f"a run folder with a readable {path}",
                got=f"{type(error).__name__}: {error}",
                remedy="Name a folder that a suture command has written.",
            ) from None
        if found != SCHEMA:
            raise BundleError(
                expected=f"a run of schema {SCHEMA}",
                got=f"schema {found!r}",
                remedy="Open it with the version of suture named in its run.json.",
            )
        return Run(Path(folder), info)

    @property
    def artifacts(self) -> Path:
        """Where models, programs, images and certificates of the run are kept."""
        return self.folder / "artifacts"

    @property
    def records(self) -> Path:
        """The records, one JSON object a line."""
        return self.folder / "records.jsonl"

    def note_parts(self, **parts: object) -> None:
        """Add the ``repr`` of parts that became known during the run."""
        self.info["parts"].update({name: str(part) for name, part in parts.items()})
        self._save()

    def write_records(self, records: list[dict[str, Any]]) -> None:
        """Write all records at once, replacing the file."""
        lines = [json.dumps(r, ensure_ascii=False, allow_nan=False) for r in records]
        write_text(self.records, "".join(line + "\n" for line in lines))

    def finish(self, status: str = "finished") -> None:
        """Mark the run as ended and note its duration in seconds."""
        self.info["status"], self.info["finished"] = status, _now()
        self.info["seconds"] = round(time.monotonic() - self._started, 3)
        self._save()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leave a failed run as such; one that has produced nothing is removed."""
        if kind is None:
            return
        with suppress(OSError, StorageError):
            self.info["status"] = "stopped" if kind is KeyboardInterrupt else "failed"
            if [path.name for path in self.folder.iterdir()] == ["run.json"]:
                shutil.rmtree(self.folder)
            else:
                self._save()

    def _save(self) -> None:
        write_json(self.folder / "run.json", self.info)


def _make_room(folder: Path, replaceable: str | None) -> None:
    """Accept a new or empty folder, or a run of the replaceable kind, which is removed."""
    if folder.is_dir() and any(folder.iterdir()):
        if replaceable is None or _kind(folder) != replaceable:
            raise StorageError(
                expected=f"a new or empty folder at {folder}",
                got="an earlier run" if _kind(folder) else "something else that is in the way",
                remedy="Choose another folder with --out, or replace a run of this kind with "
                "--force.",
            )
        for name in ("records.jsonl", "report.html", "run.json"):
            (folder / name).unlink(missing_ok=True)
        for name in ("artifacts", "checkpoints"):
            shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)


def _kind(folder: Path) -> str | None:
    """The kind of run that a folder holds, if it holds one."""
    try:
        return str(Run.open(folder).info.get("kind"))
    except BundleError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
