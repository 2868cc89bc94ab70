"""Items spread over a Ray cluster, or over a local one that is started for the purpose.

One task is one item, with ``threads_per_item`` CPUs. Retries are counted here, not by Ray, so that
they mean the same as on the other backends. A node that is lost takes its running items with it;
they are tried again on those that remain.
"""

from __future__ import annotations

import importlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

from suture.engine.base import Calls, Engine, Result, require_idle
from suture.engine.calling import final, readable
from suture.engine.outcomes import Failure, Outcome, lost_worker, out_of_memory, out_of_time
from suture.engine.packing import pack, unpack
from suture.engine.ray_crew import RayCrew
from suture.engine.remote import answer, parts_of
from suture.engine.share import Body, Crew, Heard, Keep
from suture.engine.threads import available_cores
from suture.errors import DependencyError, EngineError

GRACE = 30.0
"""Seconds past its limit after which a task is cancelled by force; starting a worker counts."""
LOOK = 10.0
"""Seconds between looks at the size of the cluster."""


@dataclass(frozen=True)
class _RayJob:
    index: int
    args: tuple[Any, ...]
    attempt: int = 1
    started: float = 0.0


class Ray(Engine):
    """Runs items as tasks of a Ray cluster.

    Args:
        workers: items at the same time; ``None`` fills the cluster.
        address: of a running cluster ("auto", "HOST:PORT", "ray://HOST:10001"); ``None`` starts
            one on this machine, which ends with ``close``. In a session that is connected already
            that cluster is used, and left running.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        address: str | None = None,
        threads_per_item: int = 1,
        retries: int = 2,
        seconds: float | None = None,
    ) -> None:
        super().__init__(
            threads_per_item=threads_per_item, retries=retries, seconds=seconds, workers=workers
        )
        self._threads, self._wanted, self._address = threads_per_item, workers, address
        self._shared: dict[str, Any] = {}
        self._running: dict[Any, _RayJob] = {}
        self._task: Any = None
        self._ours = False
        self._looked, self._size = 0.0, 1

    def run(self, fn: Callable[..., Result], calls: Calls) -> Generator[Outcome[Result]]:
        require_idle(bool(self._running))
        self._connect()
        waiting = deque(_RayJob(index, args) for index, args in calls)
        # A script's own functions go by value: the nodes cannot import it.
        packed: bytes = _ray().cloudpickle.dumps(fn)
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self._window():
                    self._submit(packed, waiting.popleft())
                for outcome, job in self._returned():
                    if final(outcome, self.retries):
                        yield readable(outcome)
                    else:
                        waiting.append(replace(job, attempt=job.attempt + 1))
        finally:
            for task in self._running:
                _ray().cancel(task, force=True)
            self._running.clear()

    def _connect(self) -> None:
        """Join or start a cluster, once."""
        if self._task is not None:
            return
        ray = _ray()
        if not ray.is_initialized():
            self._start(ray)
            self._ours = True
        remote = ray.remote(num_cpus=self._threads, max_retries=0)
        self._task = remote(answer)

    def _start(self, ray: Any) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        facts: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self._address is None:
            cores = self._wanted and self._wanted * self._threads
            facts |= {"num_cpus": cores or available_cores(), "include_dashboard": False}
        try:
            ray.init(address=self._address or "local", **facts)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
            where = self._address or "on this machine"
            raise EngineError(
                expected=f"a Ray cluster {where}",
                got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                remedy="Start one with `ray start --head`, and give the address it prints.",
            ) from error

    def _submit(self, fn: bytes, job: _RayJob) -> None:
        work = pack((fn, job.args))
        task = self._task.remote(
            work, job.index, job.attempt, self._threads, self.seconds, self._shared
        )
        self._running[task] = replace(job, started=time.monotonic())

    def _returned(self) -> list[tuple[Outcome[Any], _RayJob]]:
        """What came back since; waits until something has, or a limit is near."""
        ray = _ray()
        done, _ = ray.wait(list(self._running), num_returns=1, timeout=1.0)
        found: list[tuple[Outcome[Any], _RayJob]] = []
        for task in done:
            job = self._running.pop(task)
            try:
                outcome = unpack(ray.get(task))
            except ray.exceptions.RayError as error:
                outcome = self._lost(job, error)
            found.append((outcome, job))
        return found + self._overdue()

    def _lost(self, job: _RayJob, error: Exception) -> Outcome[Any]:
        """A task that Ray could not finish: final after the last attempt, or if it cannot pass."""
        exceptions, spent = _ray().exceptions, time.monotonic() - job.started
        cause: Exception
        if isinstance(error, exceptions.RayTaskError):
            cause = EngineError(
                expected="the same packages on every node of the cluster",
                got=str(getattr(error, "cause", error)).splitlines()[0],
                remedy="Install suture, in the same version, on every node.",
            )
        elif job.attempt <= self.retries:
            cause = OSError("worker lost")
        elif isinstance(error, exceptions.OutOfMemoryError):
            cause = out_of_memory()
        else:
            cause = lost_worker(f"{type(error).__name__}: a node or process of the cluster ended")
        failure = Failure(cause, job.attempt, spent)
        return Outcome(job.index, None, failure, job.attempt, spent)

    def _overdue(self) -> list[tuple[Outcome[Any], _RayJob]]:
        """Items past their limit in code that cannot be interrupted."""
        if self.seconds is None:
            return []
        found: list[tuple[Outcome[Any], _RayJob]] = []
        now = time.monotonic()
        for task, job in list(self._running.items()):
            spent = now - job.started
            if spent > self.seconds + GRACE:
                del self._running[task]
                _ray().cancel(task, force=True)
                failure = Failure(out_of_time(self.seconds), job.attempt, spent)
                found.append((Outcome(job.index, None, failure, job.attempt, spent), job))
        return found

    def _window(self) -> int:
        """Items in flight: one per worker, and as many again so that none waits for us."""
        # A limit is counted from the submission: nothing may queue then.
        return self.workers if self._wanted or self.seconds else 2 * self.workers

    def _several(
        self, body: Body, crew: Crew, *, device: str, point: Any, tell: Heard, keep: Keep
    ) -> Any:
        self._connect()
        return RayCrew(_ray(), crew, self._threads, device, self.retries, tell, keep, point).run(
            body
        )

    @property
    def workers(self) -> int:
        if self._wanted is not None:
            return self._wanted
        if self._task is None:
            return max(1, available_cores() // self._threads)
        if time.monotonic() - self._looked > LOOK or not self._looked:
            self._looked = time.monotonic()
            self._size = int(_ray().cluster_resources().get("CPU", 1)) // self._threads
        return max(1, self._size)

    def publish(self, key: str, value: Any) -> None:
        self._connect()
        self._shared[key] = _ray().put(parts_of(value))

    def withdraw(self, key: str) -> None:
        self._shared.pop(key, None)

    def close(self) -> None:
        if self._ours and self._task is not None:
            _ray().shutdown()
        self._task, self._ours = None, False
        self._shared.clear()


def _ray() -> Any:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise DependencyError(
            expected="the package ray",
            got="an environment without it",
            remedy="pip install 'suture[ray]'",
        ) from None
