"""Throw mutated files at every reader: ``python -m tests.fuzz.run --count 20000`` (make fuzz).

Each input has 5 s and 2 GiB. What fails is printed with its kind and number; ``--keep FOLDER``
keeps the files themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import select
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SECONDS = 5.0
START = 240.0
SHARES = {
    "bundle": 10, "onnx": 20, "pt2": 8, "safetensors": 8, "state_dict": 6, "npz": 12, "idx": 10,
    "pictures": 10, "run": 10, "piece": 6, "history": 6, "vnnlib": 12, "manifest": 2,
}  # fmt: skip
"""Parts of the inputs that are of each kind."""


class Box:
    """A process that opens inputs, started again when one has killed it."""

    def __init__(self, folder: Path, kinds: list[str]) -> None:
        self.folder, self.kinds, self.process = folder, kinds, None
        self.folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        env = os.environ | {"HOME": str(home), "TMPDIR": str(home), "OMP_NUM_THREADS": "1",
                            "SUTURE_DATA": str(home)}  # fmt: skip
        env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]),
                                             env.get("PYTHONPATH", "")])  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.box", str(self.folder), ",".join(self.kinds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env,
            cwd=self.folder, bufsize=0,
        )  # fmt: skip
        ready = self._line(START)
        assert ready == "ready", f"the box does not start: {ready!r}"

    def _line(self, seconds: float) -> str | None:
        """The next line, ``""`` if the process ended, ``None`` if the time is up."""
        assert self.process is not None and self.process.stdout is not None
        end, text = time.monotonic() + seconds, b""
        while not text.endswith(b"\n"):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                return None
            more = os.read(self.process.stdout.fileno(), 1 << 16)
            if not more:
                return ""
            text += more
        return text.decode().strip()

    def ask(self, kind: str, number: int, seconds: float = SECONDS) -> dict[str, Any]:
        if self.process is None:
            self.start()
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(f"{kind} {number}\n".encode())
        line = self._line(seconds)
        if line:
            return json.loads(line)
        code = self.close()
        end = "slow" if line is None else "died"
        trace = f"more than {seconds:g} s" if line is None else f"exit status {code}"
        return {"kind": kind, "number": number, "end": end, "trace": trace}

    def close(self) -> int | None:
        if self.process is None:
            return None
        ended, self.process = self.process, None
        time.sleep(0.05)
        code = ended.poll()
        ended.kill()
        ended.wait()
        return code


def fuzz(
    count: int,
    workers: int,
    first: int = 1,
    kinds: list[str] | None = None,
    *,
    tell: bool = False,
    keep: Path | None = None,
) -> tuple[Counter[str], list[dict[str, Any]]]:
    """Open ``count`` mutated inputs; how they ended, and those that must not have.

    Args:
        first: number of the first input of every kind.
        tell: print where it stands.
        keep: folder for the inputs that fail.
    """
    chosen = kinds or list(SHARES)
    total = sum(SHARES[kind] for kind in chosen)
    work: queue.Queue[tuple[str, int]] = queue.Queue()
    for kind in chosen:
        for number in range(first, first + -(-count * SHARES[kind] // total)):
            work.put((kind, number))
    ends: Counter[str] = Counter()
    bad: list[dict[str, Any]] = []
    with TemporaryDirectory(prefix="suture-fuzz-") as name:
        yard = Path(name)
        threads = [
            threading.Thread(
                target=_serve, args=(Box(yard / f"box{i}", chosen), work, ends, bad, keep)
            )
            for i in range(workers)
        ]
        before = time.monotonic()
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            threads[0].join(5)
            if tell:
                spent = time.monotonic() - before
                print(f"{sum(ends.values())} inputs, {spent:.0f} s, {len(bad)} bad", flush=True)
            for thread in threads:
                thread.join(0)
        strays = {path.name for path in yard.iterdir()} - {f"box{i}" for i in range(workers)}
        bad += [
            {"kind": "?", "number": 0, "end": "bug", "trace": f"{s} was written"} for s in strays
        ]
    return ends, bad


def _serve(
    box: Box,
    work: queue.Queue[tuple[str, int]],
    ends: Counter[str],
    bad: list[dict[str, Any]],
    keep: Path | None,
) -> None:
    try:
        while True:
            try:
                kind, number = work.get_nowait()
            except queue.Empty:
                return
            told = box.ask(kind, number)
            if told["end"] == "slow":  # a busy machine is not the reader's fault: once more
                told = box.ask(kind, number)
            ends[told["end"]] += 1
            if told["end"] not in ("read", "refused"):
                bad.append(told)
                if keep is not None and (box.folder / "in").is_dir():
                    shutil.copytree(box.folder / "in", keep / f"{kind}-{number}")
    finally:
        box.close()


def main() -> int:
    """Status 1 if anything but our own errors came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--only", help="KIND or KIND:NUMBER")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that fail")
    given = parser.parse_args()
    started = time.monotonic()
    if given.only and ":" in given.only:
        kind, _, number = given.only.partition(":")
        ends, bad = fuzz(1, 1, int(number), [kind], keep=given.keep)
    else:
        kinds = [given.only] if given.only else None
        ends, bad = fuzz(given.count, given.workers, given.first, kinds, tell=True, keep=given.keep)
    for told in sorted(bad, key=lambda t: (t["kind"], t["number"])):
        print(f"--- {told['kind']}:{told['number']} {told['end']}\n{told['trace']}")
    facts = {"inputs": sum(ends.values()), **ends, "seconds": round(time.monotonic() - started, 1)}
    print(json.dumps(facts))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
