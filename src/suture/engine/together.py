"""Several processes of this machine that train together, started by Lightning Fabric."""

from __future__ import annotations

import importlib
import os
import threading
import warnings
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from suture import memory
from suture.engine.packing import pack, unpack
from suture.engine.share import Body, Crew, Heard, Keep, Share
from suture.engine.threads import available_cores
from suture.errors import DependencyError, EngineError, SutureError


def launch(
    body: Body,
    crew: Crew,
    *,
    device: torch.device | str = "cpu",
    point: Any = None,
    tell: Heard,
    keep: Keep,
) -> Any:
    """Run ``body(share)`` in all processes of the crew: the first one's result.

    Args:
        body: can be sent to another process; its result is plain data.
        device: "cpu", or "cuda" for one accelerator a process.
        point: what the shares are to go on from.
        tell, keep: hear what the first process reports.

    Raises:
        DependencyError: Lightning Fabric is not installed.
        EngineError: a process failed; the message is that of the first one that did.
        SutureError: what ``keep`` raised.
    """
    kind = _fabric()
    accelerator = "cuda" if str(device).startswith("cuda") else "cpu"
    fabric = kind(accelerator=accelerator, devices=crew.processes, strategy="ddp_spawn")
    told = torch.multiprocessing.get_context("spawn").SimpleQueue()
    errors: list[Exception] = []
    listener = threading.Thread(target=_listen, args=(told, tell, keep, errors), daemon=True)
    listener.start()
    try:
        with TemporaryDirectory(prefix="suture-") as private:
            place, start = Path(private) / "result", pack(point)
            fabric.launch(_process, body, crew.minutes, start, told, place)
            return unpack(place.read_bytes())
    except Exception as error:
        raise EngineError(
            expected=f"{crew.processes} training processes to finish",
            got=str(error).strip().splitlines()[-1] if str(error).strip() else repr(error),
            remedy="With --processes 1 the error comes alone.",
        ) from error
    finally:
        told.put(None)
        listener.join(60)
        if errors:
            raise errors[0]


def _process(fabric: Any, body: Body, minutes: float, start: bytes, told: Any, place: Path) -> None:
    """The life of one process; the first one leaves its result in a file.

    Lightning reads what this returns when all processes have ended: something large would keep
    them waiting for a reader.
    """
    warnings.filterwarnings("ignore", "Grad strides do not match")
    rank, world = fabric.global_rank, fabric.world_size
    torch.set_num_threads(max(1, available_cores() // world))
    memory.keep()  # a fresh process would fetch a step's activations from the system every time
    share = Share(rank, world, fabric.device, unpack(start), minutes, partial(_post, told))
    result = body(share)
    if rank == 0:
        place.write_bytes(pack(result))
    share.wait()


def _post(told: Any, kind: str, value: Any) -> None:
    told.put(pack((kind, value)))


def _listen(told: Any, tell: Heard, keep: Keep, errors: list[Exception]) -> None:
    """Pass on what the first process reports, until ``None``."""
    while True:
        try:
            message = told.get()
        except (EOFError, OSError):
            return
        if message is None:
            return
        kind, value = unpack(message)
        try:
            tell(*value) if kind == "tell" else keep(value)
        except SutureError as error:  # the training goes on to its end; then it is raised
            errors.append(error)


def _fabric() -> Any:
    os.environ.setdefault("PL_DISABLE_FORK", "1")
    try:
        return importlib.import_module("lightning_fabric").Fabric
    except ImportError:
        raise DependencyError(
            expected="the package lightning-fabric, for several training processes",
            got="an environment without it",
            remedy="pip install 'suture[ddp]'",
        ) from None
