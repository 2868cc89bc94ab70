"""Items spread over worker processes of this machine."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

from suture.engine.base import Engine, Result
from suture.engine.threads import available_cores, set_threads
from suture.errors import ArgumentError, EngineError


class Processes(Engine):
    """Runs items in a pool of processes, one per available core unless told otherwise.

    Workers are spawned, not forked: a fork of a process that has started threads (torch has) can
    deadlock. They live until ``close``, so that start-up is paid once.
    """

    def __init__(self, workers: int | None = None, *, threads_per_item: int = 1) -> None:
        super().__init__(threads_per_item=threads_per_item)
        if workers is not None and workers < 1:
            raise ArgumentError(
                expected="at least one worker",
                got=str(workers),
                remedy="Leave workers unset to use every available core.",
            )
        self._workers = workers or max(1, available_cores() // threads_per_item)
        self._pool: ProcessPoolExecutor | None = None

    def _imap(
        self, fn: Callable[..., Result], calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[Result]:
        pool, waiting = self._started(), iter(calls)
        # Two items per worker in flight keep all busy without copying every item at once.
        running: deque[Future[Result]] = deque(
            pool.submit(fn, *call) for call in islice(waiting, 2 * self._workers)
        )
        try:
            while running:
                result = running.popleft().result()
                running.extend(pool.submit(fn, *call) for call in islice(waiting, 1))
                yield result
        except BrokenProcessPool as error:
            self.close()
            raise EngineError(
                expected="worker processes to finish their items",
                got="a worker that died (killed, or out of memory)",
                remedy="Use fewer workers or smaller items, then run again.",
            ) from error
        finally:
            for future in running:
                future.cancel()

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=set_threads,
                initargs=(self.threads_per_item,),
            )
        return self._pool

    @property
    def workers(self) -> int:
        return self._workers

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
