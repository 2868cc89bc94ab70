"""One process that opens mutated files, and cannot do harm: ``python -m tests.fuzz.box FOLDER``.

It reads ``KIND NUMBER`` lines and answers each with one line of JSON. Memory is limited to 2 GiB
above what the libraries take; every attempt to write outside its folder, to start a program, to
open a connection or to unpickle a class is noted and refused.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from suture import data, models, report, rng_kernels  # noqa: F401 - compiled before the guard
from suture.cli import audit
from suture.cli.engines import checked_options
from suture.data.vnnlib import read_vnnlib
from suture.engine import Run, plain
from suture.errors import SutureError
from suture.evaluate import read_records
from suture.models import read_weights
from suture.training import History
from tests.fuzz import seeds
from tests.fuzz.mutate import mutated

MEMORY = 2 << 30
_FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork",
              "socket.connect", "pickle.find_class")  # fmt: skip
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink",
            "os.truncate", "os.chmod", "shutil.rmtree")  # fmt: skip


def _open_data(path: Path) -> None:
    found = data.load(path)
    for split in (found.train, found.validation, found.test):
        if len(split):
            split.batch(4)


def _open_run(folder: Path) -> None:
    """Every reader of a run, one after another: each may refuse."""
    ledger = seeds.ledger_of(folder / "run")
    for work in ("w", "0"):
        for index in ledger.done("rows", work, 10):
            ledger.get("rows", work, index)
    opened = Run.open(folder / "run")
    _ = opened.state
    checked_options(audit.command, opened.info.get("options") or {})
    for record in read_records(folder / "run" / "records.jsonl"):
        _ = record.percent, record.interval
    report.write(folder / "run")


def _open_history(folder: Path) -> None:
    history = History.open(folder / "history")
    for epoch in history.epochs[:2]:
        history.state(epoch)


TARGETS: dict[str, Callable[[Path], Any]] = {
    "bundle": lambda folder: models.load(folder / "bundle"),
    "onnx": lambda folder: models.load(folder / "model.onnx", in_shape=(1, 8, 8)),
    "pt2": lambda folder: models.load(folder / "model.pt2"),
    "safetensors": lambda folder: models.load("digits_cnn", weights=folder / "weights.safetensors"),
    "state_dict": lambda folder: read_weights(folder / "weights.pt"),
    "npz": lambda folder: [_open_data(path) for path in sorted(folder.glob("*.npz"))],
    "idx": lambda folder: _open_data(folder / "idx"),
    "pictures": lambda folder: _open_data(folder / "pictures"),
    "run": _open_run,
    "piece": lambda folder: [plain.from_bytes(p.read_bytes()) for p in folder.glob("*")],
    "history": _open_history,
    "vnnlib": lambda folder: read_vnnlib(folder / "property.vnnlib"),
    "manifest": _open_run,
}


class Guard:
    """Notes what the code under test tries to do outside its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.active = str(folder.resolve()), False
        self.seen: list[str] = []
        sys.addaudithook(self._look)

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path, flags = os.fsdecode(arguments[0]), arguments[2] or 0
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._inside(event, path)
        elif event in _CHANGES and isinstance(arguments[0], (str, bytes, Path)):
            self._inside(event, os.fsdecode(arguments[0]))
        elif event in _FORBIDDEN:
            self._refuse(f"{event} {arguments!r:.200}")

    def _inside(self, event: str, path: str) -> None:
        if not os.path.realpath(path).startswith(self.folder) and path != os.devnull:
            self._refuse(f"{event} {path}")

    def _refuse(self, what: str) -> None:
        self.seen.append(what)
        raise PermissionError(f"the fuzzer's box refuses: {what}")


def materials(kind: str, number: int) -> seeds.Files:
    """The mutated files of that number; number 0 is the whole ones."""
    whole = seeds.seed(kind)
    if number == 0:
        return whole
    return mutated(whole, np.random.default_rng([number, *kind.encode()]))


def attempt(kind: str, number: int, folder: Path, guard: Guard) -> dict[str, Any]:
    """Open one mutated input: what came of it."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in materials(kind, number).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    guard.seen.clear()
    guard.active, told = True, {"kind": kind, "number": number, "end": "read"}
    try:
        TARGETS[kind](folder)
    except SutureError as error:
        told["end"] = "refused"
        if len(str(error)) > 20_000:
            told |= {"end": "bug", "trace": f"a message of {len(str(error))} characters"}
    except BaseException as error:  # noqa: BLE001 - anything else is what we look for
        if not isinstance(error, PermissionError) or not guard.seen:
            told |= {"end": "bug", "trace": "".join(traceback.format_exception(error)[-6:])}
    finally:
        guard.active = False
    if guard.seen:
        told |= {"end": "bug", "trace": f"outside of the folder: {guard.seen}"}
    return told


def limit_memory() -> None:
    """At most 2 GiB more than now."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    used = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + MEMORY,) * 2)


def main() -> None:
    """Answer the lines of stdin."""
    warnings.simplefilter("ignore")
    box = Path(sys.argv[1])
    folder, guard = box / "in", Guard(box)
    answers, sys.stdout = sys.stdout, sys.stderr
    kinds = sys.argv[2].split(",")
    for kind in kinds:  # imports and compiled parts before the limits
        told = attempt(kind, 0, folder, guard)
        assert told["end"] == "read" or kind == "manifest", told
    limit_memory()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        kind, number = line.split()
        told = attempt(kind, int(number), folder, guard)
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    main()
