"""The ledger of a run: which pieces of its work are done, and what came out of them.

``ledger.jsonl`` has one line for each finished piece, only ever appended to: stage, position, file
and SHA-256. A result counts if its line is whole and its file has that hash; anything else is
computed anew. So a run may be killed at any moment, and loses at most the pieces in work.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from suture.engine import plain
from suture.errors import BundleError
from suture.storage import storage_errors, write_quickly

FILE = "ledger.jsonl"


class Ledger:
    """Finished pieces of a run, in a folder of their own.

    Args:
        folder: where to keep them; made when the first one is put in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._lines: dict[tuple[str, str, int], dict[str, Any]] = {}
        for line in _lines(self.folder / FILE):
            self._lines[line["stage"], line["work"], line["index"]] = line

    def get(self, stage: str, work: str, index: int) -> Any:
        """A finished piece's plain value, or ``None`` if there is none that is whole."""
        line = self._lines.get((stage, _short(work), index))
        if line is None or "file" not in line or Path(line["file"]).name != line["file"]:
            return None
        try:
            content = (self.folder / line["file"]).read_bytes()
            if hashlib.sha256(content).hexdigest() == line["sha256"]:
                return plain.from_bytes(content)
        except (OSError, BundleError):
            pass
        return None

    def done(self, stage: str, work: str, count: int) -> set[int]:
        """Positions below ``count`` that have a line; ``get`` decides whether their files hold."""
        short = _short(work)
        keys = ((stage, short, index) for index in range(count))
        return {key[2] for key in keys if "file" in self._lines.get(key, {})}

    def put(self, stage: str, work: str, index: int, value: Any) -> None:
        """Keep a finished piece: the file first, then its line.

        Raises:
            StorageError: disk full, folder read-only; what was kept before stays whole.
        """
        content, short = plain.to_bytes({"value": value}), _short(work)
        name = f"{_safe(stage)}-{short[:8]}-{index:06d}.safetensors"
        write_quickly(self.folder / name, content)
        digest = hashlib.sha256(content).hexdigest()
        self._append(
            {"stage": stage, "work": short, "index": index, "file": name, "sha256": digest}
        )

    def fail(self, stage: str, work: str, index: int, failure: dict[str, Any]) -> None:
        """Note that a piece failed; it is tried again when the run is resumed."""
        self._append({"stage": stage, "work": _short(work), "index": index, **failure})

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Pieces whose last line is a failure."""
        return [line for line in self._lines.values() if "error" in line]

    def drop(self, stage: str, work: str) -> None:
        """Remove a stage's files; their lines stay, and count for nothing."""
        short = _short(work)
        for (name, of, _), line in list(self._lines.items()):
            if name == stage and of == short and "file" in line:
                with suppress(OSError):
                    (self.folder / line["file"]).unlink()
                del self._lines[name, of, line["index"]]

    def clear(self) -> None:
        """Remove everything: the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lines.clear()

    def _append(self, line: dict[str, Any]) -> None:
        path = self.folder / FILE
        # The leading newline ends a line that a killed process has left half written.
        text = "\n" + json.dumps(line, ensure_ascii=False) + "\n"
        with storage_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                data = text.encode()
                while data:
                    data = data[os.write(handle, data) :]
            finally:
                os.close(handle)
        self._lines[line["stage"], line["work"], line["index"]] = line


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a ledger."""
    try:
        text = path.read_bytes().decode(errors="replace")
    except OSError:
        return
    for row in text.splitlines():
        try:
            line = json.loads(row)
            kinds = {"stage": str, "work": str, "index": int}
            whole = all(type(line[key]) is kind for key, kind in kinds.items())
            file = all(isinstance(line.get(key, ""), str) for key in ("file", "sha256"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        if whole and file and ("error" in line or {"file", "sha256"} <= line.keys()):
            yield line


def _short(work: str) -> str:
    return hashlib.sha256(work.encode()).hexdigest()[:16]


def _safe(stage: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in stage)[:80]
