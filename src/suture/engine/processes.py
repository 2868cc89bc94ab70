"""Items spread over worker processes of this machine."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection, reduction
from typing import Any

from suture import forking
from suture.engine.base import Calls, Engine, Result, require_idle
from suture.engine.calling import final, readable
from suture.engine.outcomes import Failure, Outcome, lost_worker, out_of_time
from suture.engine.packing import pack, unpack
from suture.engine.sharing import Segment
from suture.engine.threads import available_cores
from suture.engine.worker import serve
from suture.errors import EngineError

GRACE = 3.0
"""Seconds past its limit after which a worker that cannot be interrupted is killed."""
STARTS = 3
"""Workers in a row that may die before they are ready."""


@dataclass
class _PoolJob:
    """An item on its way: what to run, and which attempt this is."""

    index: int
    args: tuple[Any, ...]
    attempt: int = 1
    started: float = 0.0


@dataclass(eq=False)
class _Worker:
    """A process and our end of its pipe."""

    process: Any
    pipe: connection.Connection
    ready: bool = False
    job: _PoolJob | None = None
    known: set[str] = field(default_factory=set)

    def stop(self) -> None:
        """Kill it, whatever it does."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


class Processes(Engine):
    """Runs items in a pool of processes, one per available core unless told otherwise.

    Workers are no forks of this process: a fork of one that has started threads (torch has) can
    deadlock. On Linux they are forks of a server without threads that has imported what they need
    (``suture.forking``), elsewhere they are spawned. They live until ``close``. One that dies costs
    its own item an attempt, and is replaced.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        threads_per_item: int = 1,
        retries: int = 2,
        seconds: float | None = None,
    ) -> None:
        super().__init__(
            threads_per_item=threads_per_item, retries=retries, seconds=seconds, workers=workers
        )
        self._threads = threads_per_item
        self._workers = workers or max(1, available_cores() // threads_per_item)
        self._pool: list[_Worker] = []
        self._segments: dict[str, Segment] = {}
        self._failed_starts = 0
        self._context = forking.context()

    def run(self, fn: Callable[..., Result], calls: Calls) -> Generator[Outcome[Result]]:
        require_idle(any(worker.job for worker in self._pool))
        waiting = deque(_PoolJob(index, args) for index, args in calls)
        try:
            while waiting or any(worker.job for worker in self._pool):
                self._hand_out(fn, waiting)
                for outcome, job in self._returned():
                    if final(outcome, self.retries):
                        yield readable(outcome)
                    else:
                        waiting.append(_PoolJob(job.index, job.args, job.attempt + 1))
        finally:
            for worker in [worker for worker in self._pool if worker.job]:
                self._remove(worker, patience=0.0)

    def _hand_out(self, fn: Callable[..., Any], waiting: deque[_PoolJob]) -> None:
        """Give every idle worker an item; start workers while there are items for them."""
        idle = [worker for worker in self._pool if worker.ready and worker.job is None]
        for worker in idle:
            if not waiting:
                return
            job = waiting.popleft()
            work = pack((fn, job.args))
            try:
                self._tell_shared(worker)
                worker.pipe.send_bytes(pack(("run", work, job.index, job.attempt)))
                worker.job, job.started = job, time.monotonic()
            except OSError:  # it died while it was idle
                self._remove(worker)
                waiting.appendleft(job)
        starting = sum(not worker.ready for worker in self._pool)
        while len(self._pool) < self._workers and starting < len(waiting):
            self._pool.append(self._started())
            starting += 1

    def _returned(self) -> list[tuple[Outcome[Any], _PoolJob]]:
        """What came back since; waits until something has."""
        places = [worker.pipe for worker in self._pool if worker.job or not worker.ready]
        ready = connection.wait(places, self._patience())
        found = []
        for worker in [worker for worker in self._pool if worker.pipe in ready]:
            job, worker.job = worker.job, None
            try:
                message = worker.pipe.recv_bytes()
            except (EOFError, OSError):
                how = self._remove(worker)
                if job is None:
                    self._count_failed_start(how)
                else:
                    found.append((_failed(job, lost_worker(how), final=self._last(job)), job))
                continue
            if job is None:
                worker.ready, self._failed_starts = True, 0
                continue
            outcome = unpack(message)
            found.append((outcome, job))
            if outcome.failure is not None and isinstance(outcome.failure.error, MemoryError):
                self._remove(worker, patience=0.0)
        return found + self._overdue()

    def _last(self, job: _PoolJob) -> bool:
        return job.attempt > self.retries

    def _overdue(self) -> list[tuple[Outcome[Any], _PoolJob]]:
        """Items past their limit in code that cannot be interrupted."""
        if self.seconds is None:
            return []
        found, now = [], time.monotonic()
        for worker in list(self._pool):
            job = worker.job
            if job is not None and now > job.started + self.seconds + GRACE:
                self._remove(worker, patience=0.0)
                found.append((_failed(job, out_of_time(self.seconds), final=True), job))
        return found

    def _patience(self) -> float | None:
        """How long nothing needs to be looked at."""
        started = [worker.job.started for worker in self._pool if worker.job]
        if self.seconds is None or not started:
            return None
        return max(0.0, min(started) + self.seconds + GRACE - time.monotonic()) + 0.01

    def _count_failed_start(self, how: str) -> None:
        self._failed_starts += 1
        if self._failed_starts >= STARTS:
            self._failed_starts = 0
            self.close()
            raise EngineError(
                expected="worker processes that start",
                got=f"{STARTS} in a row that died at once ({how})",
                remedy='Keep a script\'s work under if __name__ == "__main__"; free memory; or '
                "use --engine inline.",
            )

    def _started(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process: Any = self._context.Process(  # type: ignore[attr-defined]
            target=serve, args=(theirs, self._threads, self.seconds), daemon=True
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _remove(self, worker: _Worker, patience: float = 0.5) -> str:
        """Take a worker out of the pool; how it ended, if it does within the patience (s)."""
        self._pool.remove(worker)
        worker.process.join(patience)
        code = worker.process.exitcode
        worker.stop()
        if code is None:
            return "it did not answer"
        return f"signal {-code}: killed, or out of memory" if code < 0 else f"exit status {code}"

    def _tell_shared(self, worker: _Worker) -> None:
        for key in worker.known - self._segments.keys():
            worker.pipe.send_bytes(pack(("forget", key)))
            worker.known.remove(key)
        for key in self._segments.keys() - worker.known:
            segment = self._segments[key]
            worker.pipe.send_bytes(pack(("share", key, segment.spans)))
            reduction.send_handle(worker.pipe, segment.handle, worker.process.pid)
            worker.known.add(key)

    def publish(self, key: str, value: Any) -> None:
        self._segments[key] = Segment.of(value)

    def withdraw(self, key: str) -> None:
        segment = self._segments.pop(key, None)
        if segment is not None:
            segment.close()

    @property
    def workers(self) -> int:
        return self._workers

    def close(self) -> None:
        for worker in self._pool:
            with suppress(OSError):
                worker.pipe.send_bytes(pack(None))
        for worker in self._pool:
            if worker.job is None:
                worker.process.join(5)
            worker.stop()
        self._pool = []


def _failed(job: _PoolJob, error: EngineError, *, final: bool) -> Outcome[Any]:
    """An item whose worker is gone; not final: an error that may pass on the next attempt."""
    spent = time.monotonic() - job.started
    cause: Exception = error if final else OSError("worker lost")
    return Outcome(job.index, None, Failure(cause, job.attempt, spent), job.attempt, spent)
