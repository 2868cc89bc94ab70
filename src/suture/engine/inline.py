"""One item after another, in this process: for small work and for debugging."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from suture.engine.base import Engine, Result
from suture.engine.threads import threads


class Inline(Engine):
    """Runs items in the calling process."""

    def _imap(
        self, fn: Callable[..., Result], calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[Result]:
        for call in calls:
            with threads(self.threads_per_item):
                result = fn(*call)
            yield result

    @property
    def workers(self) -> int:
        return 1
