"""Where worker processes come from: forks of a small server that has imported what they need.

Importing torch takes seconds of processor time. A worker that is spawned pays them before its first
item; here a server process pays them once, while the session still opens its model and data, and a
worker is a fork of it. The server computes nothing and has no threads of its own (torch's and
Numba's teams start with the first parallel work), so that its forks inherit none: a fork of the
session itself could deadlock. This module imports no torch, to be called before that.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, get_context, parent_process
from multiprocessing.context import BaseContext
from pathlib import Path
from types import ModuleType
from typing import Any

WORKER = "suture.engine.worker"
"""What every worker runs."""


def prepare(modules: Sequence[str] = ()) -> None:
    """Start the server, if there is none, and let it import these modules in the background.

    Nothing happens where workers are spawned: on systems other than Linux.
    """
    if sys.platform == "linux":
        forkserver.set_forkserver_preload([WORKER, *modules])
        with _own_path():
            forkserver.ensure_running()


def context() -> BaseContext:
    """What starts workers: forks of the server, or ``spawn`` where there can be none."""
    if sys.platform != "linux":
        return get_context("spawn")
    try:
        prepare()
    except ChildProcessError:  # this process is a fork itself: the server is its parent's
        return get_context("spawn")
    return get_context("forkserver")


def bare_context() -> BaseContext | None:
    """Starts processes that never see the session's script, or ``None`` where there is no server.

    They run suture's own code alone, so a script needs no guard (``if __name__ == "__main__"``).
    """
    return BareContext() if context().get_start_method() == "forkserver" else None


if sys.platform == "linux":
    from multiprocessing.context import ForkServerContext, ForkServerProcess

    class BareProcess(ForkServerProcess):
        """Starts without the session's script."""

        @staticmethod
        def _Popen(process_obj: Any) -> Any:
            with _without_script():
                return ForkServerProcess._Popen(process_obj)  # type: ignore[attr-defined]

    class BareContext(ForkServerContext):
        """Of such processes."""

        Process = BareProcess  # type: ignore[assignment]


def end_with_session(*_: Any) -> None:
    """In a worker: end it, whatever it does, when the session that asked for it is gone.

    The server lives as long as one of its forks, so that to look for a new parent is no help.
    """
    threading.Thread(target=_watch_session, daemon=True).start()


def _watch_session() -> None:
    session = parent_process()
    if session is not None:
        session.join()
        os._exit(1)


@contextmanager
def _without_script() -> Iterator[None]:
    """What is started meanwhile is not told where the session's script lies."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextmanager
def _own_path() -> Iterator[None]:
    """Let a new interpreter find modules where this one does; not all versions pass that on."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
