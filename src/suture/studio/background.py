"""Repairs that run beside the studio: commands of suture in processes of their own.

A repair is what ``suture repair`` makes of the same words: a run folder with its recipe, that
``suture resume`` goes on with. It does not end with the studio.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from suture.errors import ArgumentError, StorageError
from suture.repairs import REPAIRS
from suture.settings import has
from suture.storage import storage_errors

LOGS = ".studio"
TAIL = 6_000


@dataclass(frozen=True)
class RepairOrder:
    """What a visitor wants repaired, and how.

    Attributes:
        model, data: references.
        method: name of the repair.
        name: of the run.
        eps: radius; empty for the method's own.
        minutes: limit of time, for methods that have one; empty for none.
        settings: ``field=value``, one each.
        seed: root of all randomness.
    """

    model: str
    data: str
    method: str
    name: str
    eps: str = ""
    minutes: str = ""
    settings: tuple[str, ...] = ()
    seed: str = "0"

    @property
    def options(self) -> dict[str, object]:
        """The options of ``suture repair`` that it stands for.

        Raises:
            ArgumentError: minutes for a method that has no limit of time.
        """
        given: dict[str, object] = {"model": self.model, "data": self.data, "method": self.method}
        given |= {"seed": self.seed} | ({"eps": self.eps} if self.eps else {})
        settings = list(self.settings)
        if self.minutes:
            if not has(REPAIRS.find(self.method), "minutes"):
                timed = ", ".join(name for name, kind in REPAIRS.items() if has(kind, "minutes"))
                raise ArgumentError(
                    expected=f"no minutes for {self.method}, which has no limit of time",
                    got=f"{self.minutes} minutes",
                    remedy=f"Leave them out; {timed} have one.",
                )
            settings.append(f"minutes={self.minutes}")
        return given | ({"set": settings} if settings else {})

    def words(self, folder: Path) -> list[str]:
        """The command line behind ``suture``."""
        options = self.options
        made = ["repair", f"--out={folder}", f"--data={self.data}", f"--method={self.method}"]
        made += [f"--seed={self.seed}"] + ([f"--eps={self.eps}"] if self.eps else [])
        settings = options.get("set", [])
        made += [f"--set={one}" for one in settings] if isinstance(settings, list) else []
        return [*made, "--", self.model]


@dataclass(eq=False)
class BackgroundJob:
    """A command that was started here.

    Attributes:
        name: of its run.
        folder: where that lies.
        log: what the command has said.
    """

    name: str
    folder: Path
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    @property
    def tail(self) -> str:
        """The end of what it has said."""
        try:
            return self.log.read_bytes()[-TAIL:].decode("utf-8", errors="replace").strip()
        except OSError:
            return ""

    def stop(self, patience: float = 30.0) -> None:
        """As Ctrl-C does: the run is kept and can be gone on with."""
        if self.running:
            os.kill(self.process.pid, signal.SIGINT)
        limit = time.monotonic() + patience
        while self.running and time.monotonic() < limit:
            time.sleep(0.05)


@dataclass
class BackgroundJobs:
    """All commands that this studio has started.

    Attributes:
        command: from words behind ``suture`` to those of a process.
        logs: folder of what they say.
        jobs: name of the run → its latest command.
    """

    command: Callable[[Sequence[str]], list[str]]
    logs: Path
    jobs: dict[str, BackgroundJob] = field(default_factory=dict)

    def start(self, name: str, folder: Path, words: Sequence[str]) -> BackgroundJob:
        """Begin a command.

        Raises:
            StorageError: it is running already, or its log cannot be written.
        """
        known = self.jobs.get(name)
        if known is not None and known.running:
            raise StorageError(
                expected=f"a run {name} that nobody works on",
                got="one that is running",
                remedy="Stop it first, or wait.",
            )
        log = self.logs / LOGS / f"{folder.name}.log"
        with storage_errors(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as out:
                # A session of its own: Ctrl-C in the studio's terminal does not stop the work.
                process = subprocess.Popen(
                    self.command(words),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        self.jobs[name] = BackgroundJob(name, folder, log, process)
        return self.jobs[name]

    @property
    def running(self) -> list[BackgroundJob]:
        """Those that have not ended."""
        return [job for job in self.jobs.values() if job.running]


def ordered(form: Mapping[str, str], model: str, data: str) -> RepairOrder:
    """The order of a form."""
    lines = form.get("settings", "").splitlines()
    method = form.get("method") or "auto"
    return RepairOrder(
        model=(form.get("model") or model).strip(),
        data=(form.get("data") or data).strip(),
        method=method,
        name=(form.get("name") or f"{method}-{time.strftime('%Y%m%d-%H%M%S')}").strip(),
        eps=form.get("eps", "").strip(),
        minutes=form.get("minutes", "").strip(),
        settings=tuple(line.strip() for line in lines if line.strip()),
        seed=form.get("seed", "").strip() or "0",
    )
