"""What runs inside a worker process: take an item, run it, send its outcome, until told to stop."""

from __future__ import annotations

import signal
from functools import partial
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

from suture import forking
from suture.engine import sharing
from suture.engine.calling import call
from suture.engine.outcomes import Failure, Outcome
from suture.engine.packing import pack, unpack
from suture.engine.threads import set_threads
from suture.errors import EngineError, SutureError


def serve(pipe: Connection, threads: int, seconds: float | None) -> None:
    """The life of a worker; it ends with the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    forking.end_with_session()
    set_threads(threads)
    pipe.send_bytes(b"ready")
    while True:
        try:
            message = unpack(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        if message is None:
            return
        kind, *rest = message
        if kind == "share":
            key, spans = rest
            sharing.expect(key, partial(sharing.read, reduction.recv_handle(pipe), spans))
        elif kind == "forget":
            sharing.forget(rest[0])
        else:
            pipe.send_bytes(answer(rest[0], rest[1], rest[2], seconds))


def answer(work: bytes, index: int, attempt: int, seconds: float | None) -> bytes:
    """An item's packed outcome."""
    try:
        fn, args = unpack(work)
        fn = unpack(fn) if isinstance(fn, bytes) else fn
    except Exception as error:  # noqa: BLE001 - the session is told
        told = EngineError(
            expected="functions that the worker can import",
            got=f"{type(error).__name__}: {error}",
            remedy="Install the same packages on every machine; keep a script's work under "
            'if __name__ == "__main__".',
        )
        return pack(Outcome(index, None, Failure(told, attempt, 0.0), attempt))
    return packed(call(fn, args, index=index, attempt=attempt, seconds=seconds))


def packed(outcome: Outcome[Any]) -> bytes:
    """An outcome as a message; what cannot be sent becomes a failure that can."""
    try:
        message = pack(_portable(outcome))
        if outcome.failure is not None:
            unpack(message)
    except Exception as error:  # noqa: BLE001 - the session is told
        outcome = _unsendable(outcome, error)
        message = pack(outcome)
    return message


def _portable(outcome: Outcome[Any]) -> Outcome[Any]:
    """The outcome without what an error drags along (frames, causes)."""
    if outcome.failure is not None:
        outcome.failure.error.__traceback__ = None
        outcome.failure.error.__cause__ = outcome.failure.error.__context__ = None
    return outcome


def _unsendable(outcome: Outcome[Any], error: Exception) -> Outcome[Any]:
    if outcome.failure is None:
        told = error if isinstance(error, SutureError) else RuntimeError(repr(error))
    else:
        told = RuntimeError(f"{type(outcome.failure.error).__name__}: {outcome.failure.error}")
    failure = Failure(told, outcome.attempts, outcome.seconds)
    return Outcome(outcome.index, None, failure, outcome.attempts, outcome.seconds)
