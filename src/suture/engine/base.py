"""Map work over items: the same results, to the bit, on every backend.

Three rules make that true. Work is cut into items by the work, never by the number of workers. An
item's randomness comes from its own stream, derived from the item's position and nothing else. And
every item runs with the same number of compute threads, because floating-point sums may depend on
it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from suture.engine import sharing
from suture.engine.outcomes import Outcome
from suture.engine.share import Body, Crew, Heard, Keep, alone
from suture.engine.sharing import Handle
from suture.engine.together import launch
from suture.errors import EngineError, require
from suture.rng import Stream
from suture.types import OnDone

Item = TypeVar("Item")
Result = TypeVar("Result")
Calls = Sequence[tuple[int, tuple[Any, ...]]]
"""Items to run: position, and arguments of the function."""


class Engine(ABC):
    """A backend that applies a function to many items.

    Args:
        threads_per_item: torch and Numba threads while an item runs; ``None`` leaves them as they
            are (``Inline`` only).
        retries: how often an item is tried again after its worker died, or after an error that
            may pass (memory, input/output). An error in the work itself is final at once.
        seconds: time limit per item, ``None`` for none.
        workers: items at the same time, for backends that have a choice; ``None`` for all that fit.
    """

    def __init__(
        self,
        *,
        threads_per_item: int | None = 1,
        retries: int = 2,
        seconds: float | None = None,
        workers: int | None = None,
    ) -> None:
        checks = {
            "at least one worker, or None for all there are": workers is None or workers >= 1,
            "threads_per_item >= 1": threads_per_item is None or threads_per_item >= 1,
            "retries >= 0": retries >= 0,
            "seconds > 0, or None": seconds is None or seconds > 0,
        }
        given = f"{workers=}, {threads_per_item=}, {retries=}, {seconds=}"
        require(checks, given, "Leave it at its default unless single items are large.")
        self.threads_per_item, self.retries, self.seconds = threads_per_item, retries, seconds

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

        Raises:
            Exception: the error of the first item that failed.
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
        return in_order(self.outcomes(fn, items, stream=stream))

    def outcomes(
        self,
        fn: Callable[..., Result],
        items: Sequence[Item],
        *,
        stream: Stream | None = None,
    ) -> Generator[Outcome[Result]]:
        """What became of each item, as they finish; a failed one does not lose the others."""
        return self.run(fn, list(enumerate(arguments(items, stream))))

    def keep(
        self,
        stage: str,
        fn: Callable[..., Result],
        items: Sequence[Item],
        *,
        work: str,
        stream: Stream | None = None,
        pack: Callable[[Result], Any] | None = None,
        unpack: Callable[[Any], Result] | None = None,
    ) -> Iterator[Result]:
        """Like ``imap``; an engine that belongs to a run keeps each result in the run's ledger.

        Args:
            stage: names this piece of the run; unique within it.
            work: says what is computed (``repr`` of the parts); kept results of other work are
                not used.
            pack, unpack: between a result and plain data: dicts, lists, numbers, texts, tensors
                and arrays. Left out where results are plain data already.
        """
        return self.imap(fn, items, stream=stream)

    @property
    def keeps(self) -> bool:
        """Whether ``recall`` finds what ``keep`` has given out."""
        return False

    def recall(self, stage: str, work: str, index: int = 0) -> Any:
        """What ``note`` has kept under that name for the same work, or ``None``.

        Args:
            index: of what ``keep`` has kept: the item's position; packed, as it was kept.
        """
        return None

    def note(  # noqa: B027 - without a ledger there is nothing to keep
        self, stage: str, value: Any, *, work: str, instead_of: str | None = None
    ) -> None:
        """Keep a plain value as a point to resume from.

        Args:
            instead_of: a stage whose kept results are no longer needed.
        """

    def together(
        self,
        body: Body,
        crew: Crew,
        *,
        device: str = "cpu",
        point: Any = None,
        tell: Heard,
        keep: Keep,
    ) -> Any:
        """``body(share)`` in processes that train together; the first one's plain result.

        Args:
            body: can be sent to another process, where there are several.
            crew: how many, and how often a point to resume from is kept.
            device: "cpu", or "cuda" for one accelerator a process.
            point: what to go on from; ``None`` from the beginning.
            tell, keep: hear the first process' reports, and its points to resume from.

        Raises:
            DependencyError: Lightning Fabric is not installed.
            EngineError: a process failed.
        """
        if crew.processes == 1:
            return alone(body, crew, point, tell, keep)
        return self._several(body, crew, device=device, point=point, tell=tell, keep=keep)

    def _several(
        self, body: Body, crew: Crew, *, device: str, point: Any, tell: Heard, keep: Keep
    ) -> Any:
        """``together`` in more than one process: of this machine, unless an engine has others."""
        return launch(body, crew, device=device, point=point, tell=tell, keep=keep)

    @abstractmethod
    def run(self, fn: Callable[..., Result], calls: Calls) -> Generator[Outcome[Result]]:
        """Outcomes of ``fn(*args)`` for each ``(index, args)``, as they finish."""

    @contextmanager
    def shared(self, value: Item) -> Iterator[Handle[Item]]:
        """Send an object to every worker once; items carry the handle. Valid inside the block."""
        handle: Handle[Item] = Handle(sharing.new_key())
        sharing.hold(handle.key, value)
        try:
            self.publish(handle.key, value)
            yield handle
        finally:
            sharing.forget(handle.key)
            self.withdraw(handle.key)

    def publish(self, key: str, value: Any) -> None:  # noqa: B027 - nothing to do in one process
        """Make a shared object reachable for the workers."""

    def withdraw(self, key: str) -> None:  # noqa: B027 - nothing to do in one process
        """Undo ``publish``."""

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


def arguments(items: Sequence[Any], stream: Stream | None) -> Iterator[tuple[Any, ...]]:
    """Each item's arguments: itself, and its own stream if there is one."""
    for index, item in enumerate(items):
        yield (item,) if stream is None else (item, stream.child(index))


def in_order(outcomes: Generator[Outcome[Result]]) -> Iterator[Result]:
    """Values by position, 0, 1, …; raises at the first failure that comes in."""
    early: dict[int, Outcome[Result]] = {}
    following = 0
    with closing(outcomes):
        for outcome in outcomes:
            if outcome.failure is not None:
                raise outcome.failure.error
            early[outcome.index] = outcome
            while following in early:
                yield early.pop(following).get()
                following += 1


def require_idle(busy: bool) -> None:
    """One piece of work at a time.

    Raises:
        EngineError: results of an earlier call are still being taken.
    """
    if busy:
        raise EngineError(
            expected="an engine that has finished its earlier work",
            got="one that still runs items of another call",
            remedy="Take all results of one call before the next, or make a second engine.",
        )
