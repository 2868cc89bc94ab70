"""How work that takes long is told about."""

from __future__ import annotations

from collections.abc import Callable

OnDone = Callable[[int, int], None]
"""Told about work of one kind: ``on_done(finished, total)``."""
OnProgress = Callable[[str, int, int], None]
"""Told about work in stages: ``on_progress(stage, finished, total)``."""


def untold(stage: str, finished: int, total: int) -> None:
    """The ``OnProgress`` of those who want to hear nothing."""
