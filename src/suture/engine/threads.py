"""How many compute threads a piece of work may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

_aside = 1
"""Threads that ``use_fitting_threads`` has put aside; large calls may take them."""


def available_cores() -> int:
    """Cores this process may run on: the affinity mask, not the machine's count."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_threads(count: int) -> None:
    """Limit torch and Numba to ``count`` threads in this process."""
    import numba

    global _aside
    _aside = 1
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(count)  # last: Numba's team, when it starts, may resize torch's


SMALL = 20_000_000
"""Floating-point operations per image below which one thread is as good as several."""


LARGE_CALL = 100_000_000
"""Floating-point operations of one forward from which several threads are worth their waits."""


def use_fitting_threads(model: nn.Module, in_shape: tuple[int, int, int]) -> int:
    """Let torch use one thread for a small network, and leave it its threads for a large one.

    Splitting the work of a small network over threads gains little on an idle machine and costs a
    factor on a busy one. The choice depends on the network alone, so that a run can be repeated
    to the bit; ``OMP_NUM_THREADS`` in the environment overrules it.
    """
    global _aside
    _aside = 1
    if "OMP_NUM_THREADS" not in os.environ:
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        small = operations(model, torch.full((2, *in_shape), 0.5, device=device)) < 2 * SMALL
        torch.set_num_threads(1 if small else available_cores())
        _aside = available_cores()
    return torch.get_num_threads()


def operations(model: nn.Module, images: Tensor) -> int:
    """Floating-point operations of a forward of these images, ``(n, c, h, w)``."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        counter = FlopCounterMode(display=False)
        with counter:
            model(images)
    return counter.get_total_flops()


@contextmanager
def threads_for(model: nn.Module, images: Tensor, count: int) -> Iterator[None]:
    """Inside, large calls of ``count`` images each take the threads that were put aside.

    Training a small network is such work: its steps of hundreds of images are worth two threads
    where its single forwards are not. Nothing changes in a process whose threads nobody has put
    aside: a worker's, or one under ``OMP_NUM_THREADS``.

    Args:
        images: a few, ``(n, c, h, w)``.
    """
    before = torch.get_num_threads()
    if _aside > before and operations(model, images) / len(images) * count >= LARGE_CALL:
        torch.set_num_threads(_aside)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Limit torch and Numba inside the block, and restore what was set before."""
    import numba

    with torch_threads(count):  # first: asking Numba may resize torch's team
        before = numba.get_num_threads()
        set_threads(count)
        try:
            yield
        finally:
            numba.set_num_threads(before)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Limit torch alone: tiny networks are faster on one thread than on several."""
    global _aside
    before, aside = torch.get_num_threads(), _aside
    torch.set_num_threads(count)
    _aside = 1
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _aside = aside


@contextmanager
def compiled() -> Iterator[None]:
    """Around parallel Numba kernels: torch's thread count is the same afterwards.

    Both may share one OpenMP runtime, where starting Numba's team also resizes torch's.
    """
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
