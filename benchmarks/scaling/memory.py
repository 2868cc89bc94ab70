"""Peak resident memory of an evaluation at two numbers of images."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

import harness

COUNTS, SIDE, CLASSES = (1_500, 6_000), 64, 10
HOLD = 2**23
"""Bytes of images held at once, in place of a gigabyte: the same paths, at small size."""


def rows() -> list[harness.Row]:
    """``megabytes`` at each number; noise of 64x64 from an ``.npz`` that is not compressed."""
    with tempfile.TemporaryDirectory(prefix="suture-") as folder:
        path = Path(folder) / "noise.npz"
        _write(path, max(COUNTS))
        found = [_audited(path, n) for n in COUNTS]
    return [
        {
            "case": f"evaluate-memory {one['n']}",
            "seconds": one["cpu_seconds"],
            "n": one["n"],
            "megabytes": one["megabytes"],
        }
        for one in found
    ]


def _audited(path: Path, n: int) -> harness.Row:
    script = Path(__file__).parent / "auditing.py"
    command = [sys.executable, str(script), str(path), "--n", str(n), "--hold", str(HOLD)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: harness.Row = json.loads(done.stdout.splitlines()[-1])
    return found


def _write(path: Path, count: int) -> None:
    """Test images of noise, a piece at a time: this process holds none of them either."""
    shape, draw = (count, SIDE, SIDE, 3), np.random.default_rng(0)
    kind = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("x_test.npy", "w", force_zip64=True) as member:
            npy.write_array_header_2_0(member, kind)
            for _ in range(0, count, 100):
                member.write(draw.integers(256, size=(100, *shape[1:]), dtype=np.uint8).data)
        with archive.open("y_test.npy", "w") as member:
            npy.write_array(member, np.arange(count) % CLASSES)
