"""What cells of a study share: repairs that several of them need, made once and kept in the run.

A network's points to resume from stay in ``checkpoints/shared``: a cell that is killed goes on
within a training, and the next cell, in whatever process, finds the training finished.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from suture.engine import Engine, Inline, Ledger, Recorded
from suture.engine.locks import acquire, release
from suture.errors import StorageError

PAUSE = 2.0
"""Seconds between two looks at work that another process is doing."""

_folder: Path | None = None
_engine: Engine | None = None
_device = "cpu"


def use(folder: Path | None, engine: Engine | None = None, device: str = "cpu") -> None:
    """Where this process keeps shared work from now on, who does it, and on what device.

    Args:
        folder: ``None`` for nowhere.
        engine: gets the pieces of a cell; ``None`` for this process.
        device: where the cell's models and images belong.
    """
    global _folder, _engine, _device
    _folder, _engine, _device = folder, engine, device


def device() -> str:
    """Where the models and images of the cell that is being measured belong."""
    return _device


@contextmanager
def shared(work: str) -> Iterator[Engine]:
    """An engine that keeps the pieces of this work; other processes wait until it is done.

    Args:
        work: names it; the same text, the same result.
    """
    plain = _engine or Inline(threads_per_item=None)
    if _folder is None:
        yield plain
        return
    with room(work) as place:
        yield Recorded(plain, Ledger(place))


@contextmanager
def room(work: str) -> Iterator[Path]:
    """A folder for the files of this work; other processes wait until it is done.

    Args:
        work: names it; the same text, the same files.
    """
    place = (_folder or Path(_own().name)) / hashlib.sha256(work.encode()).hexdigest()[:16]
    _wait(place)
    try:
        yield place
    finally:
        release(place)


@cache
def _own() -> TemporaryDirectory:
    """This process' folder where no run keeps the work; it goes with the process."""
    return TemporaryDirectory(prefix="suture-shelf-")


def _wait(place: Path) -> None:
    while True:
        try:
            acquire(place)
        except StorageError:
            time.sleep(PAUSE)
        else:
            return
