"""How far an item is, from inside of it: heard where the item runs in the caller's own thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from suture.types import OnProgress, untold

_HEARD: ContextVar[OnProgress] = ContextVar("heard", default=untold)


@contextmanager
def heard_by(on_progress: OnProgress | None) -> Iterator[None]:
    """Inside, ``tell`` reaches this; in other processes it reaches nobody."""
    token = _HEARD.set(on_progress or untold)
    try:
        yield
    finally:
        _HEARD.reset(token)


def tell(stage: str, done: int, total: int) -> None:
    """``done`` of ``total`` steps of a stage of the running item are finished."""
    _HEARD.get()(stage, done, total)
