"""Where a number was measured: versions of the libraries, the machine, memory used."""

from __future__ import annotations

import os
import platform
import resource
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from suture import __version__


@cache
def library_versions() -> dict[str, str]:
    """Versions of suture, Python, and the libraries whose numerics matter."""
    found = {"suture": __version__, "python": platform.python_version()}
    for name in ("torch", "torchvision", "numpy", "numba"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def machine() -> dict[str, Any]:
    """Processor, cores this process may use, torch threads, accelerator."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def memory_mb() -> float:
    """Resident memory of this process and of those it has started, in MiB, now.

    Pages that several of them share are counted in each. Where the system does not tell (other
    than Linux), the peak of this process.
    """
    pages = _resident(os.getpid())
    if pages is None:
        return peak_memory_mb()
    waiting, total = [os.getpid()], 0
    while waiting:
        process = waiting.pop()
        total += _resident(process) or 0
        waiting += _children(process)
    return total * os.sysconf("SC_PAGE_SIZE") / (1024 * 1024)


def _resident(process: int) -> int | None:
    try:
        return int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _children(process: int) -> list[int]:
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8")
        return [int(child) for child in text.split()]
    except (OSError, ValueError):
        return []
