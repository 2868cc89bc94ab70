"""Map work over items: the same results, to the bit, on every backend.

Two rules make that true. An item's randomness comes from its own stream, derived from the item's
position and nothing else. And every item runs with the same number of compute threads (one by
default), because floating-point sums may depend on it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from suture.errors import ArgumentError
from suture.rng import Stream

Item = TypeVar("Item")
Result = TypeVar("Result")
OnDone = Callable[[int, int], None]


class Engine(ABC):
    """A backend that applies a function to many items.

    Args:
        threads_per_item: torch and Numba threads while an item runs.
    """

    def __init__(self, *, threads_per_item: int = 1) -> None:
        if threads_per_item < 1:
            raise ArgumentError(
                expected="threads_per_item >= 1",
                got=str(threads_per_item),
                remedy="Leave it at 1 unless single items are large.",
            )
        self.threads_per_item = threads_per_item

    def map(
        self,
        fn: Callable[..., Result],
        items: Sequence[Item],
        *,
        stream: Stream | None = None,
        on_done: OnDone | None = None,
    ) -> list[Result]:
        """``[fn(item), …]`` in the order of items; with a stream, ``fn(item, stream.child(i))``.

        Args:
            fn: a function that can be sent to another process (importable, or a partial of one).
            items: what to map over.
            stream: root of the items' random streams.
            on_done: called as ``on_done(finished, total)`` after each item.
        """
        results = []
        for result in self.imap(fn, items, stream=stream):
            results.append(result)
            if on_done is not None:
                on_done(len(results), len(items))
        return results

    def imap(
        self,
        fn: Callable[..., Result],
        items: Sequence[Item],
        *,
        stream: Stream | None = None,
    ) -> Iterator[Result]:
        """Like ``map``, one result at a time as soon as it and all before it are there."""
        calls: list[tuple[Any, ...]] = [
            (item,) if stream is None else (item, stream.child(index))
            for index, item in enumerate(items)
        ]
        return self._imap(fn, calls)

    @abstractmethod
    def _imap(
        self, fn: Callable[..., Result], calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[Result]:
        """Results of ``fn(*call)`` in order."""

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many items run at the same time."""

    def close(self) -> None:  # noqa: B027 - backends without workers have nothing to release
        """Release workers; the engine can be used again and starts new ones."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(threads_per_item={self.threads_per_item})"
