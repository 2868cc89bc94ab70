"""One item after another, in this process: for small work and for debugging."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import nullcontext

from suture.engine.base import Calls, Engine, Result
from suture.engine.calling import call, final, readable
from suture.engine.outcomes import Outcome
from suture.engine.threads import threads


class Inline(Engine):
    """Runs items in the calling process."""

    def run(self, fn: Callable[..., Result], calls: Calls) -> Generator[Outcome[Result]]:
        for index, args in calls:
            attempt = 1
            while True:
                limited = threads(self.threads_per_item) if self.threads_per_item else nullcontext()
                with limited:
                    outcome = call(fn, args, index=index, attempt=attempt, seconds=self.seconds)
                if final(outcome, self.retries):
                    break
                attempt += 1
            yield readable(outcome)

    @property
    def workers(self) -> int:
        return 1
