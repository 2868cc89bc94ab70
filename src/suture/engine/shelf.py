"""Runs below a folder, and how far each is: read from what lies there alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from suture.engine.runs import PROGRESS, Run
from suture.errors import BundleError


def runs_below(folder: Path, depth: int = 2) -> Iterator[Run]:
    """Readable runs in a folder and up to ``depth`` folders deep; what is none is passed over."""
    if (folder / "run.json").is_file():
        try:
            yield Run.open(folder)
        except BundleError:
            return
    elif depth and folder.is_dir():
        for below in sorted(folder.iterdir()):
            yield from runs_below(below, depth - 1)


def listed(run: Run) -> dict[str, Any]:
    """A run as a line of a list."""
    return {
        "run": str(run.folder),
        "kind": run.info.get("kind"),
        "status": run.state,
        "created": run.info.get("created"),
        "seconds": run.info.get("seconds"),
        "title": run.info.get("title"),
    }


def how_far(folder: Path) -> dict[str, Any]:
    """Where a run stands: its stage, what is finished and kept."""
    run = Run.open(folder)
    try:
        told = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        stage = {key: told[key] for key in ("stage", "done", "total")}
    except (OSError, ValueError, KeyError, TypeError):
        stage = {}
    return {
        "run": str(folder),
        "kind": run.info.get("kind"),
        "status": run.state,
        **stage,
        "pieces": len(list((folder / "checkpoints" / "pieces").glob("*.safetensors"))),
        "epochs": len(list((folder / "checkpoints").rglob("epoch-*.safetensors"))),
        "seconds": run.info.get("seconds"),
    }
