"""An engine that belongs to a run: what it finishes is in the run's ledger, and not done twice."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

from suture.engine.base import Calls, Engine, Item, Result, arguments
from suture.engine.ledger import Ledger
from suture.engine.outcomes import Failure, Outcome
from suture.engine.share import Body, Crew
from suture.rng import Stream

GIVE_UP = 8
"""Failed items of a stage after which the rest is not tried."""


class Recorded(Engine):
    """Another engine with a ledger.

    Args:
        engine: runs the items; closed by whoever made it.
        ledger: keeps their results.
    """

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        super().__init__(
            threads_per_item=engine.threads_per_item,
            retries=engine.retries,
            seconds=engine.seconds,
        )
        self.engine, self.ledger = engine, ledger

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
        kept = self.ledger.done(stage, work, len(items))
        whole = {i for i in kept if self.ledger.get(stage, work, i) is not None}
        calls = [c for c in enumerate(arguments(items, stream)) if c[0] not in whole]
        fresh = self._fresh(stage, fn, calls, work, pack)
        following = 0
        early: dict[int, Any] = {}
        with closing(fresh):
            while following < len(items):
                if following in whole:
                    value = self.ledger.get(stage, work, following)["value"]
                    yield value if unpack is None else unpack(value)
                    following += 1
                elif following in early:
                    yield early.pop(following)
                    following += 1
                else:
                    index, result = next(fresh)
                    early[index] = result

    def _fresh(
        self,
        stage: str,
        fn: Callable[..., Result],
        calls: Calls,
        work: str,
        pack: Callable[[Result], Any] | None,
    ) -> Generator[tuple[int, Result]]:
        """Positions and results as they finish, each kept before it is given out."""
        failures: list[Failure] = []
        outcomes = self.engine.run(fn, calls)
        with closing(outcomes):
            for outcome in outcomes:
                if outcome.failure is not None:
                    failures.append(outcome.failure)
                    self.ledger.fail(stage, work, outcome.index, outcome.failure.to_dict())
                    if len(failures) == GIVE_UP:
                        break
                    continue
                value: Result = outcome.get()
                self.ledger.put(stage, work, outcome.index, pack(value) if pack else value)
                yield outcome.index, value
        if failures:
            raise failures[0].error

    @property
    def keeps(self) -> bool:
        return True

    def recall(self, stage: str, work: str, index: int = 0) -> Any:
        found = self.ledger.get(stage, work, index)
        return None if found is None else found["value"]

    def note(self, stage: str, value: Any, *, work: str, instead_of: str | None = None) -> None:
        self.ledger.put(stage, work, 0, value)
        if instead_of is not None:
            self.ledger.drop(instead_of, work)

    def together(self, body: Body, crew: Crew, **how: Any) -> Any:
        return self.engine.together(body, crew, **how)

    def run(self, fn: Callable[..., Result], calls: Calls) -> Generator[Outcome[Result]]:
        return self.engine.run(fn, calls)

    def publish(self, key: str, value: Any) -> None:
        self.engine.publish(key, value)

    def withdraw(self, key: str) -> None:
        self.engine.withdraw(key)

    @property
    def workers(self) -> int:
        return self.engine.workers
