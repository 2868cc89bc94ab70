"""Functions that other processes can import."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from suture.engine import Handle
from suture.errors import DataError
from suture.rng import Stream


def draw(size: int, stream: Stream) -> tuple[np.ndarray, torch.Tensor]:
    matrix = torch.randn(size, size, generator=stream.generator())
    return stream.numpy().random(size), matrix @ matrix


def square(item: int) -> int:
    return item * item


def fail_at_three(item: int) -> int:
    if item == 3:
        raise DataError(expected="not three", got="three", remedy="Skip it.")
    return item


def own_pid(_: int) -> int:
    return os.getpid()


def about_this_process(_: int) -> dict[str, object]:
    """Its parent, its threads of torch, and whether the attacks were there before it began."""
    return {
        "parent": os.getppid(),
        "threads": torch.get_num_threads(),
        "attacks": "suture.attacks" in sys.modules,
    }


def threads_in_use(_: int) -> int:
    return torch.get_num_threads()


def count_tries(folder: Path, item: int) -> int:
    """How often this item was tried, this time included."""
    tries = len(list(folder.glob(f"{item}-*"))) + 1
    (folder / f"{item}-{tries}").touch()
    return tries


def die_once_at_two(folder: Path, item: int) -> int:
    if item == 2 and count_tries(folder, item) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def die_at_two(item: int) -> int:
    if item == 2:
        os._exit(9)
    return item


def no_memory_once(folder: Path, item: int) -> int:
    if count_tries(folder, item) == 1 and item == 1:
        return len(bytearray(1 << 62))
    return os.getpid()


def no_memory(item: int) -> int:
    raise MemoryError


def busy(item: float) -> float:
    end = time.monotonic() + item
    while time.monotonic() < end:
        pass
    return item


def marked(folder: Path, fn: Callable[..., object], *args: object) -> object:
    """Takes a while; on the node that is to be killed it says so, and waits for that."""
    time.sleep(0.2)
    here = node_of(0)
    if (folder / f"doomed-{here}").exists():
        (folder / f"working-{here}").touch()
        time.sleep(20.0)
    return fn(*args)


def node_of(_: int) -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


def stuck_in_c(item: float) -> float:
    """Cannot be interrupted by a signal handler: these are blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(item)
    return item


def total(handle: Handle[dict[str, torch.Tensor]], row: int) -> float:
    return float(handle.get()["rows"][row].sum())


def scribble(handle: Handle[dict[str, torch.Tensor]], row: int) -> float:
    """Changes what it was given; no other process may see that."""
    rows = handle.get()["rows"]
    before = float(rows.sum())
    rows += 1
    return before


def forward(handle: Handle[torch.nn.Module], seed: int) -> torch.Tensor:
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return handle.get()(image)


def slow_rows(folder: Path, seconds: float, item: int, stream: Stream) -> dict[str, object]:
    """A piece of work that says that it was done, and takes its time."""
    count_tries(folder, item)
    busy(seconds)
    return {"item": item, "draw": stream.numpy().random(5), "half": torch.tensor([0.5, item])}


def until_mended(folder: Path, tries: Path, how: str, item: int) -> int:
    count_tries(tries, item)
    if item == 2 and not (folder / "mended").exists():
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise MemoryError
    return item * item
