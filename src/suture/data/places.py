"""Where data may lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import suture
from suture.errors import DataError


def folder() -> Path | None:
    """The data folder, or ``None`` where there is none.

    In this order: the environment variable ``SUTURE_DATA``; ``../shared/data`` beside the checkout
    that suture is installed from (editable); ``../shared/data`` beside the current directory.

    Raises:
        DataError: when ``SUTURE_DATA`` names something that is not a folder.
    """
    named = os.environ.get("SUTURE_DATA", "").strip()
    if named:
        return _existing(Path(named).expanduser())
    beside = [_checkout(), Path.cwd()]
    candidates = [place.parent / "shared" / "data" for place in beside if place is not None]
    return next((place for place in candidates if place.is_dir()), None)


def _existing(place: Path) -> Path:
    if not place.is_dir():
        raise DataError(
            expected="the environment variable SUTURE_DATA to name a folder",
            got=f"{place}, which is not one",
            remedy="Correct it, or unset it to do without the data folder.",
        )
    return place


def _checkout() -> Path | None:
    """The repository that suture was imported from; ``None`` for an ordinary installation."""
    root = Path(suture.__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else None


def torchvision_root() -> Path:
    """Where torchvision keeps its own files: ``SUTURE_TORCHVISION``, or a cache in the home."""
    named = os.environ.get("SUTURE_TORCHVISION", "").strip()
    return Path(named or "~/.cache/suture/torchvision").expanduser()
