"""Progress on stderr: bars in a terminal, a line now and then in a log."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from suture.cli.stopping import current
from suture.engine.runs import PROGRESS
from suture.errors import StorageError
from suture.provenance import memory_mb
from suture.storage import write_quickly

stderr = Console(stderr=True)

SHOW_AFTER = 2.0
"""Seconds before a bar appears: short work needs none."""
LINE_EVERY = 30.0
"""Seconds between two lines where stderr is no terminal."""


class _Rate(ProgressColumn):
    """Steps a second, or seconds a step where they are slow."""

    def render(self, task: Task) -> Text:
        if not task.speed:
            return Text("")
        slow = task.speed < 1
        return Text(f"{1 / task.speed:.1f} s each" if slow else f"{task.speed:.1f}/s")


class _MemoryColumn(ProgressColumn):
    """Resident memory of this process and its workers."""

    max_refresh = 1.0

    def render(self, task: Task) -> Text:
        return Text(f"{memory_mb() / 1024:.1f} GiB")


class Lines:
    """What a log says of long work: stage, steps, time so far, time left where it is known.

    Args:
        clock: seconds of any origin.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._said = self._entered = clock()
        self._at: tuple[str, int, int] | None = None
        self._first = 0
        self._lock = threading.Lock()  # two threads may find a line due

    def tell(self, stage: str, done: int, total: int) -> str | None:
        """Note where the work is; a line if one is due."""
        if self._at is None or self._at[0] != stage:
            self._entered, self._first = self._clock(), done
        self._at = (stage, done, total)
        return self.due()

    def due(self) -> str | None:
        """A line, where the last one is ``LINE_EVERY`` ago."""
        with self._lock:
            now = self._clock()
            if now - self._said < LINE_EVERY:
                return None
            self._said = now
        spent = f"after {duration(now - self._began)}"
        if self._at is None:
            return f"at work {spent}"
        stage, done, total = self._at
        steps = done - self._first  # those before were there when the stage began
        each = (now - self._entered) / steps if steps > 0 else None
        left = "" if each is None else f", about {duration(each * (total - done))} left of it"
        return f"{stage}: {done} of {total} {spent}{left}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours in words, without more digits than matter."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


class Bars:
    """Tells how far a command is: ``bars(stage, done, total)``.

    In a terminal one bar a stage, shown once the work takes noticeable time. Elsewhere a line every
    ``LINE_EVERY`` seconds, also while nothing is told. A run's folder holds the last state.
    """

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            _MemoryColumn(),
            console=stderr,
            transient=True,
        )
        self._tasks: dict[str, Any] = {}
        self._started = time.monotonic()
        self._live = False
        self._noted = float("-inf")
        self._lines = None if stderr.is_terminal else Lines()
        self._over = threading.Event()

    def __enter__(self) -> Bars:
        if self._lines is not None:
            threading.Thread(target=self._beat, args=(self._lines,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._live:
            self._progress.stop()

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Report that ``done`` of ``total`` steps of a stage are finished.

        Args:
            note: what changes from step to step, such as a loss; shown behind the stage's name.
        """
        self._note(stage, done, total)
        if self._lines is not None:
            said = self._lines.tell(stage, done, total)
            _print(said if said is None or not note else f"{said}; {note}")
            return
        if not self._live and time.monotonic() - self._started > SHOW_AFTER:
            self._progress.start()
            self._live = True
        if stage not in self._tasks:
            for task in self._tasks.values():
                self._progress.update(task, visible=False)
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        shown = f"{stage}, {note}" if note else stage
        task = self._tasks[stage]
        self._progress.update(task, completed=done, total=total, description=shown, visible=True)

    def _beat(self, lines: Lines) -> None:
        """Say something while a step takes long."""
        while not self._over.wait(1.0):
            _print(lines.due())

    def _note(self, stage: str, done: int, total: int) -> None:
        """At most once a second, how far the run is: for ``suture runs watch``."""
        folder, now = current(), time.monotonic()
        if folder is None or not folder.is_dir() or now - self._noted < 1:
            return
        self._noted = now
        with suppress(OSError, StorageError):
            text = json.dumps({"stage": stage, "done": done, "total": total, "time": time.time()})
            write_quickly(folder / PROGRESS, text.encode())


def _print(line: str | None) -> None:
    if line is not None:
        stderr.print(line, highlight=False, markup=False, soft_wrap=True)
