"""Processes of a Ray cluster that train together: torch.distributed inside Ray's actors.

A node that is lost takes its processes with it, and ends the training of the others, which wait for
them. All are started again, on the nodes that are there then, from the last point that was kept:
so much is lost. Their number stays, so weights end as in an unbroken run: where a cluster has
fewer cores than before, processes share them.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist

from suture import memory
from suture.engine.calling import call
from suture.engine.outcomes import Outcome
from suture.engine.packing import pack, unpack, unpack_apart
from suture.engine.remote import parts_of
from suture.engine.share import Body, Crew, Heard, Keep, Share
from suture.engine.threads import set_threads
from suture.engine.worker import packed
from suture.errors import EngineError, SutureError

START = 120.0
"""Seconds within which all processes must have started; the cluster may be recovering."""
GRACE = 30.0
"""Seconds after an error until it counts as the work's own, and not as one of a lost node."""
LOOK = 0.2
"""Seconds between two looks at what the first process reports."""


class _NodeLost(Exception):
    """A process of the crew is gone."""


class Member:
    """An actor: one process of the crew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._news: list[bytes] = []
        self._newest: bytes | None = None

    def address(self) -> str:
        """Where the others can meet this one: ``tcp://HOST:PORT``."""
        import ray

        host = ray.util.get_node_ip_address()
        with socket.socket() as free:
            free.bind(("", 0))
            return f"tcp://{host}:{free.getsockname()[1]}"

    def work(
        self, body: Any, start: bytes, rank: int, crew: Crew, where: str, threads: int, device: str
    ) -> bytes:
        """The body's packed outcome; values count for the first process alone."""
        set_threads(threads)
        outcome = call(self._together, (body, start, rank, crew, where, device), index=rank)
        if rank and outcome.failure is None:
            outcome = Outcome(rank, None)
        return packed(outcome)

    def _together(
        self, body: Any, start: bytes, rank: int, crew: Crew, where: str, device: str
    ) -> Any:
        import torch

        memory.keep()
        place = torch.device(device)
        if place.type == "cuda":
            torch.cuda.set_device(place)
        kind, count = "nccl" if place.type == "cuda" else "gloo", crew.processes
        dist.init_process_group(kind, init_method=where, rank=rank, world_size=count)
        try:
            own: Body = unpack_apart(*body)
            return own(Share(rank, count, place, unpack(start), crew.minutes, self._post))
        finally:
            dist.destroy_process_group()

    def _post(self, kind: str, value: Any) -> None:
        message = pack((kind, value))
        with self._lock:
            if kind == "tell":
                self._newest = message
            else:
                self._news.append(message)

    def news(self) -> list[bytes]:
        """Points since the last call, and the newest report."""
        with self._lock:
            found = self._news + ([] if self._newest is None else [self._newest])
            self._news, self._newest = [], None
        return found


@dataclass
class RayCrew:
    """A training over a cluster, started again when a node is lost.

    Args:
        ray: the module, connected.
        crew: how many, and how often a point is kept.
        threads: of each process.
        device: "cpu", or "cuda" for one accelerator a process.
        retries: how often a point may be lost on the way to the next.
        tell, keep: hear what the first process reports.
    """

    ray: Any
    crew: Crew
    threads: int
    device: str
    retries: int
    tell: Heard
    keep: Keep
    point: Any = None
    losses: int = 0
    _members: list[Any] = field(default_factory=list)

    def run(self, body: Body) -> Any:
        """The first process' result.

        Raises:
            EngineError: no place for the processes, or too many nodes lost one after the other.
            SutureError: what the body or ``keep`` raised.
        """
        shipped = self.ray.put(parts_of(body))
        while True:
            try:
                return self._once(shipped)
            except (_NodeLost, self.ray.exceptions.RayActorError) as error:
                self.losses += 1
                if self.losses > self.retries + 1:
                    raise self._given_up() from error
            finally:
                self._end()

    def _once(self, shipped: Any) -> Any:
        self._begin()
        first, start = self._members[0], pack(self.point)
        where = self._got(first.address.remote())
        works = [
            member.work.remote(shipped, start, rank, self.crew, where, self.threads, self._place())
            for rank, member in enumerate(self._members)
        ]
        return self._followed(works, first)

    def _followed(self, works: list[Any], first: Any) -> Any:
        """Wait for all, and pass on what the first one reports."""
        left, value = list(works), None
        while left:
            done, left = self.ray.wait(left, num_returns=1, timeout=LOOK)
            self._hear(first)
            for task in done:
                outcome = unpack(self.ray.get(task))
                if outcome.failure is not None:
                    self._failed(outcome.failure.error)
                value = outcome.value if task == works[0] else value
        self._hear(first)
        return value

    def _failed(self, error: Exception) -> None:
        """Raise the error, unless it came of a lost node.

        The connections of those that are left break before Ray knows that a process is gone.
        """
        if isinstance(error, SutureError):
            raise error
        until = time.monotonic() + GRACE
        while time.monotonic() < until:
            self._hear(self._members[0])
            for member in self._members[1:]:
                self._got(member.address.remote())
            time.sleep(0.5)
        raise EngineError(
            expected=f"{self.crew.processes} training processes to finish",
            got=f"{type(error).__name__}: {error}",
            remedy="With --processes 1 the error comes alone.",
        )

    def _hear(self, first: Any) -> None:
        for message in self._got(first.news.remote()):
            kind, value = unpack(message)
            if kind == "tell":
                self.tell(*value)
            else:
                self.point, self.losses = value, 0
                self.keep(value)

    def _got(self, reference: Any) -> Any:
        """The value, within the time that a cluster may need."""
        try:
            return self.ray.get(reference, timeout=START)
        except self.ray.exceptions.GetTimeoutError as error:
            raise _NodeLost from error

    def _begin(self) -> None:
        """Start the processes, as evenly over the nodes as they fit."""
        graphics = 1 if self._place() == "cuda:0" else 0
        remote = self.ray.remote(
            num_cpus=self._cores(),
            num_gpus=graphics,
            max_restarts=0,
            max_concurrency=2,
            scheduling_strategy="SPREAD",
        )(Member)
        self._members = [remote.remote() for _ in range(self.crew.processes)]
        for member in self._members:
            self._got(member.news.remote())

    def _place(self) -> str:
        return "cuda:0" if self.device.startswith("cuda") else "cpu"

    def _cores(self) -> float:
        """Cores a process asks for: its threads, or a part of them where the cluster is small."""
        nodes = [n["Resources"].get("CPU", 0.0) for n in self.ray.nodes() if n["Alive"]]
        for parts in range(1, 101):
            cores = self.threads / parts
            if sum(int(node / cores + 1e-9) for node in nodes) >= self.crew.processes:
                return cores
        raise EngineError(
            expected=f"a cluster with room for {self.crew.processes} processes",
            got=f"{sum(nodes):g} cores",
            remedy="Start more nodes, or ask for fewer --processes.",
        )

    def _end(self) -> None:
        for member in self._members:
            self.ray.kill(member)
        self._members = []

    def _given_up(self) -> EngineError:
        return EngineError(
            expected="nodes that stay from one point to resume from to the next",
            got=f"{self.losses} losses without a point between them",
            remedy="Keep points more often (--checkpoint-minutes); `suture resume RUN` goes on "
            "from the last one.",
        )
