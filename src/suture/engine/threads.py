"""How many compute threads a piece of work may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def available_cores() -> int:
    """Cores this process may run on: the affinity mask, not the machine's count."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_threads(count: int) -> None:
    """Limit torch and Numba to ``count`` threads in this process."""
    import numba

    torch.set_num_threads(count)
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))


SMALL = 20_000_000
"""Floating-point operations per image below which one thread is as good as several."""


def use_fitting_threads(model: nn.Module, in_shape: tuple[int, int, int]) -> int:
    """Let torch use one thread for a small network, and leave it its threads for a large one.

    Splitting the work of a small network over threads gains little on an idle machine and costs a
    factor on a busy one. The choice depends on the network alone, so that a run can be repeated
    to the bit; ``OMP_NUM_THREADS`` in the environment overrules it.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            device = next((p.device for p in model.parameters()), torch.device("cpu"))
            counter = FlopCounterMode(display=False)
            with counter:
                model(torch.full((2, *in_shape), 0.5, device=device))
        small = counter.get_total_flops() < 2 * SMALL
        torch.set_num_threads(1 if small else available_cores())
    return torch.get_num_threads()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Limit torch and Numba inside the block, and restore what was set before."""
    import numba

    before, before_numba = torch.get_num_threads(), numba.get_num_threads()
    set_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        numba.set_num_threads(before_numba)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Limit torch alone: tiny networks are faster on one thread than on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
