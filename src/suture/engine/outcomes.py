"""What became of an item: its value, or a record of why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from suture.errors import EngineError, SutureError

Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class Failure:
    """Why an item has no value.

    Attributes:
        error: what it raised, or an ``EngineError`` that says how its worker was lost.
        attempts: how often it was tried.
        seconds: wall clock of the last attempt.
    """

    error: Exception
    attempts: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The failure as a record for JSON."""
        return {
            "error": type(self.error).__name__,
            "message": str(self.error),
            "attempts": self.attempts,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, eq=False)
class Outcome(Generic[Value]):
    """One item's end.

    Attributes:
        index: the item's position.
        value: what the function returned; ``None`` after a failure.
        failure: ``None`` when all went well.
        attempts, seconds: how often it was tried; wall clock of the last attempt.
    """

    index: int
    value: Value | None
    failure: Failure | None = None
    attempts: int = 1
    seconds: float = 0.0

    def get(self) -> Value:
        """The value; raises the item's error if it failed."""
        if self.failure is not None:
            raise self.failure.error
        return self.value  # type: ignore[return-value]


def may_pass(error: BaseException) -> bool:
    """Whether another attempt may do better: memory and input/output, but no wrong input."""
    return isinstance(error, (MemoryError, OSError)) and not isinstance(error, SutureError)


def out_of_time(seconds: float) -> EngineError:
    """The error of an item that ran past its limit."""
    return EngineError(
        expected=f"an item to finish within {seconds:g} s",
        got="one that was still running, and was stopped",
        remedy="Raise the time limit per item, or make items smaller (--batch-size).",
    )


def lost_worker(how: str) -> EngineError:
    """The error of an item whose workers died, each time it was tried."""
    return EngineError(
        expected="worker processes to finish their items",
        got=f"a worker that died ({how})",
        remedy="Use fewer workers (--workers) or smaller items (--batch-size), then go on with "
        "`suture resume RUN`.",
    )


def out_of_memory() -> EngineError:
    """The error of an item that did not fit into memory."""
    return EngineError(
        expected="an item to fit into a worker's memory",
        got="MemoryError",
        remedy="Use fewer workers (--workers) or smaller items (--batch-size), then go on with "
        "`suture resume RUN`.",
    )
