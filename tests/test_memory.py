"""Memory that is taken once is used again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

WORK = """
import resource, sys, torch
from suture import memory

if sys.argv[1] == "keep":
    memory.keep()

def work():
    pieces = [torch.zeros(2**20) for _ in range(10)]

work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 5 * 10 * 2**20 * 4 // 4096
"""Of all that the work writes after its first round."""


def faults(how: str) -> int:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", WORK, how],
        env=plain | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's allocator")
def test_pages_are_not_asked_for_again():
    assert faults("keep") < PAGES / 10 < faults("leave")
