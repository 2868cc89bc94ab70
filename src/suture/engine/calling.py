"""One item, run here: with its threads, inside its time limit, errors caught."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from suture.engine.outcomes import Failure, Outcome, may_pass, out_of_memory, out_of_time


class _TimeUp(BaseException):
    """Raised by the alarm inside an item; not an ``Exception``, so that items do not catch it."""


def call(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    *,
    index: int = 0,
    attempt: int = 1,
    seconds: float | None = None,
) -> Outcome[Any]:
    """``fn(*args)`` as an outcome; only ``KeyboardInterrupt`` and the like come through."""
    started = time.perf_counter()
    error: Exception
    try:
        with alarm(seconds):
            value = fn(*args)
        return Outcome(index, value, None, attempt, time.perf_counter() - started)
    except _TimeUp:
        assert seconds is not None
        error = out_of_time(seconds)
    except MemoryError:
        error = MemoryError("out of memory")
    except Exception as raised:  # noqa: BLE001 - an item's error is its outcome
        error = raised
    spent = time.perf_counter() - started
    return Outcome(index, None, Failure(error, attempt, spent), attempt, spent)


def final(outcome: Outcome[Any], retries: int) -> bool:
    """Whether the item has its value, or no further attempt is due."""
    failure = outcome.failure
    return failure is None or outcome.attempts > retries or not may_pass(failure.error)


def readable(outcome: Outcome[Any]) -> Outcome[Any]:
    """The outcome with a message in place of a bare ``MemoryError``."""
    failure = outcome.failure
    if failure is None or not isinstance(failure.error, MemoryError):
        return outcome
    told = Failure(out_of_memory(), failure.attempts, failure.seconds)
    return Outcome(outcome.index, None, told, outcome.attempts, outcome.seconds)


@contextmanager
def alarm(seconds: float | None) -> Iterator[None]:
    """Raise inside the block once the time is up; compiled code is left when it returns.

    Only the main thread can be interrupted so; elsewhere the limit is left to the engine, which
    stops the whole worker a little later.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: object) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
