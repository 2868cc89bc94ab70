"""One process at a time works in a run folder.

The lock is the operating system's, on the file ``.lock``: it ends with the process that holds it,
however that ends, so that a killed run can be taken over at once. The file says who holds it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from pathlib import Path

from suture.errors import StorageError
from suture.storage import storage_errors

FILE = ".lock"
_HELD: dict[Path, int] = {}


def acquire(folder: Path) -> None:
    """Take the folder's lock; a process that has it already keeps it.

    Raises:
        StorageError: another process holds it, or the folder cannot be written.
    """
    path = folder.resolve() / FILE
    if path in _HELD:
        return
    with storage_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        handle = _locked(path)
        os.ftruncate(handle, 0)
        os.pwrite(
            handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0
        )
    _HELD[path] = handle


def release(folder: Path) -> None:
    """Give the lock back, if this process has it."""
    path = folder.resolve() / FILE
    handle = _HELD.pop(path, None)
    if handle is not None:
        path.unlink(missing_ok=True)
        os.close(handle)


def holder(folder: Path) -> str | None:
    """Who works in the folder now, in words; ``None`` if nobody does."""
    path = folder.resolve() / FILE
    if path in _HELD:
        return f"process {os.getpid()} (this one)"
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return _who(path) if error.errno in (errno.EAGAIN, errno.EACCES) else None
    finally:
        os.close(handle)
    return None


def _locked(path: Path) -> int:
    """The lock file, locked, and still the one that the name leads to."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                os.close(handle)
                raise _in_use(path) from None
            return handle  # a file system without locks: better unlocked than not at all
        try:
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)


def _who(path: Path) -> str:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return f"process {told['pid']} on {told['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _in_use(path: Path) -> StorageError:
    return StorageError(
        expected=f"a run that nobody else is working on in {path.parent}",
        got=f"one in use by {_who(path)}",
        remedy="Wait for it to end, stop it, or choose another folder with --out.",
    )
