"""Two processes over one: training on this machine and over a Ray cluster, and certification.

Whole commands, one compute thread a process. Of a training counts the time of its epochs, as the
run keeps it (the first epoch of each is left out: it starts what is started once); of a
certification the whole command, from its call to its end.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import harness

REPEATS = 3


@dataclass(frozen=True)
class Sizes:
    """How much is measured; the defaults take about ten minutes on two idle cores."""

    images: int = 4_096
    epochs: int = 3
    arch: str = "conv_cifar"
    certified: int = 10_000
    reader: str = "a5_small"


def rows(sizes: Sizes = Sizes()) -> list[harness.Row]:
    """A row a case, with ``speedup``: the median over alternating pairs."""
    with tempfile.TemporaryDirectory(prefix="suture-") as private:
        work = _Work(Path(private), sizes)
        found = [_row("train-2", lambda: work.train(2), lambda: work.train(1))]
        if importlib.util.find_spec("ray") is not None:
            found.append(_row("ray-train-2", lambda: work.train(2, "ray"), lambda: work.train(1)))
        found.append(_row("certify-2", lambda: work.certify(2), lambda: work.certify(1)))
    return found


def _row(case: str, two: Callable[[], float], one: Callable[[], float]) -> harness.Row:
    pairs = []
    for index in range(REPEATS):
        if index % 2:
            alone, both = one(), two()
        else:
            both, alone = two(), one()
        pairs.append((both, alone))
    ratios = [alone / both for both, alone in pairs]
    return {
        "case": case,
        "seconds": round(statistics.median(both for both, _ in pairs), 3),
        "speedup": round(statistics.median(ratios), 2),
        "spread": [round(min(ratios), 2), round(max(ratios), 2)],
        "reference": "one process, one thread",
        "reference_seconds": round(statistics.median(alone for _, alone in pairs), 3),
    }


class _Work:
    """Commands on noise that looks like pictures; the images do not matter for the time."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder, self.sizes, self.count = folder, sizes, 0
        draw = np.random.default_rng(0)
        for name, shape in (("colour", (32, 32, 3)), ("grey", (28, 28, 1))):
            parts = {"train": sizes.images, "test": max(64, sizes.certified)}
            arrays = {f"x_{p}": draw.integers(256, size=(n, *shape)) for p, n in parts.items()}
            arrays |= {f"y_{part}": np.arange(n) % 10 for part, n in parts.items()}
            np.savez(folder / f"{name}.npz", **{k: v.astype(np.uint8) for k, v in arrays.items()})

    def train(self, processes: int, engine: str = "inline") -> float:
        """Seconds of the epochs after the first."""
        how = ["--processes", str(processes), "--engine", engine, "--no-history"]
        settings = {"epochs": self.sizes.epochs, "batch_size": 128, "patience": 0}
        for name, value in settings.items():
            how += ["--set", f"{name}={value}"]
        out = self._suture("train", self.sizes.arch, "--data", "colour.npz", *how)
        curves = json.loads((out / "run.json").read_text())["curves"]
        return sum(curve["seconds"] for curve in curves[1:])

    def certify(self, workers: int) -> float:
        """Seconds of the command, from its call to its end."""
        how = ["--engine", "processes", "--workers", str(workers), "--method", "crown"]
        how += ["--n", str(self.sizes.certified), "--batch-size", "8", "--eps", "0.02"]
        certify = partial(self._suture, "certify", self.sizes.reader, "--data", "grey.npz", *how)
        return harness.seconds(certify)

    def _suture(self, *arguments: str) -> Path:
        self.count += 1
        out = self.folder / f"run{self.count}"
        line = [sys.executable, "-c", "from suture.cli import main; main()", *arguments]
        subprocess.run(
            [*line, "--out", str(out), "--json"],
            cwd=self.folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
        )
        return out


def main() -> None:
    """The rows alone: ``python benchmarks/scaling/together.py --images 2048``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=Sizes.images)
    parser.add_argument("--certified", type=int, default=Sizes.certified)
    given = parser.parse_args()
    for row in rows(Sizes(images=given.images, certified=given.certified)):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
