"""What is kept when Ctrl-C stops a command, and the line that goes on from there."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

_STATE: dict[str, Any] = {}


def working_on(folder: Path | None, *, goes_on: bool = False, trusted: bool = False) -> None:
    """Remember the run of this process.

    Args:
        folder: where it lives; ``None`` when there is none any more.
        goes_on: whether ``suture resume`` takes such a run.
        trusted: whether code of the user's was allowed to run, which is never kept.
    """
    if folder is None:
        _STATE.clear()
    else:
        _STATE.update(folder=Path(folder), goes_on=goes_on, trusted=trusted)


def current() -> Path | None:
    """The run folder that this process works on."""
    return _STATE.get("folder")


def recipe(path: Path | None) -> None:
    """Remember the recipe that is being carried out: the same line goes on with it."""
    _STATE.pop("recipe", None)
    if path is not None:
        _STATE["recipe"] = path


def words() -> str:
    """For the user, after Ctrl-C."""
    folder = current()
    if folder is None or not (folder / "run.json").is_file():
        return "stopped; nothing was begun that could be gone on with"
    kept = _kept(folder)
    line = _line(folder)
    return f"stopped; kept in {folder}: {kept}" + (f"\ngo on with: {line}" if line else "")


def _line(folder: Path) -> str:
    trust = " --trust-code" if _STATE.get("trusted") else ""
    if _STATE.get("recipe") is not None:
        return f"suture run {shlex.quote(str(_STATE['recipe']))}{trust}"
    if not _STATE.get("goes_on"):
        return ""
    return f"suture resume {shlex.quote(str(folder))}{trust}"


def _kept(folder: Path) -> str:
    """Finished work in words."""
    epochs = len(list((folder / "checkpoints").rglob("epoch-*.safetensors")))
    pieces = len(list((folder / "checkpoints" / "pieces").glob("*.safetensors")))
    found = [f"{epochs} epochs"] if epochs else []
    found += [f"{pieces} finished pieces of work"] if pieces else []
    return " and ".join(found) or "its options, no finished piece of work yet"
