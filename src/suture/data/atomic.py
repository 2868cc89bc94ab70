"""Files appear whole or not at all: temporary file, fsync, rename."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from suture.errors import StorageError


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader, or a crash, never sees half of it.

    Args:
        path: the file; its folder is made when missing.
        content: all of it.

    Raises:
        StorageError: when the folder or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        _fill(handle, Path(name), path, content)
    except OSError as error:
        raise StorageError(
            expected=f"to write {path}",
            got=f"{type(error).__name__}: {error.strerror or error}",
            remedy="Choose a folder that can be written and has space left.",
        ) from error


def _fill(handle: int, temporary: Path, path: Path, content: bytes) -> None:
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a result is as readable as any other file of the user.
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
