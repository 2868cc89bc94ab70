"""Files that are either whole or not there: temporary sibling, fsync, rename."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from suture.errors import StorageError

_LEFT = re.compile(r"\..+\.[0-9a-f]{8}\.(tmp|old)")


@contextmanager
def atomic_file(path: Path, *, lasting: bool = True) -> Iterator[Path]:
    """Yield a temporary sibling to write to; it takes the place of ``path`` on success.

    Args:
        lasting: flush to disk before the rename, so that power loss does no harm either.

    Raises:
        StorageError: read-only folder, full disk, or something in the way; nothing stays behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if lasting:
                _sync(temporary)
            temporary.replace(path)
            if lasting:
                _sync(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling folder; it takes the place of ``path`` on success.

    An existing folder at ``path`` is replaced as a whole.
    """
    path = Path(path)
    token = secrets.token_hex(4)
    temporary = path.with_name(f".{path.name}.{token}.tmp")
    old = path.with_name(f".{path.name}.{token}.old")
    try:
        with storage_errors(path):
            temporary.mkdir(parents=True, mode=0o700)
            yield temporary
            for file in sorted(temporary.rglob("*")):
                _sync(file)
            temporary.chmod(0o755)
            if path.exists():
                path.replace(old)
            temporary.replace(path)
            _sync(path.parent)
    except BaseException:
        if old.exists() and not path.exists():
            old.replace(path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what a killed process has left half written below a folder that nobody works in."""
    for path in list(folder.rglob(".*.*")):
        if not _LEFT.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one clear error about ``path``."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            expected=f"to be able to write {path}",
            got=error.strerror or str(error),
            remedy="Choose a folder you may write to, with free space (option --out).",
        ) from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def write_quickly(path: Path, data: bytes) -> None:
    """Like ``write_bytes`` without waiting for the disk: for files whose hash is kept elsewhere."""
    with atomic_file(path, lasting=False) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 file atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
