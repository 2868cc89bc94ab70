"""Training by several processes: PyTorch's distributed data parallel, through Lightning Fabric.

Every process takes its share of each batch, and gradients are averaged over the batch as a whole:
the loss curve is that of one process with the same batch, up to the order in which floating-point
sums are taken. Batch normalisation sees a process' own share, and dropout draws anew in each.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from suture.engine.threads import available_cores
from suture.errors import DependencyError, EngineError
from suture.training.result import OnProgress, TrainResult
from suture.training.weights import model_tensors, to_bytes

Body = Callable[["Share", OnProgress | None], TrainResult]


@dataclass(frozen=True)
class Share:
    """One process' part of the training.

    Attributes:
        fabric: Lightning's, launched; ``None`` for a single process.
        rank, world: which process this is, out of how many.
    """

    fabric: Any = None
    rank: int = 0
    world: int = 1

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The model whose backward averages gradients over all processes."""
        return model if self.fabric is None else self.fabric.setup_module(model)

    def own(self, positions: Tensor) -> Tensor:
        """The process' part of a batch."""
        return positions[self.rank :: self.world]

    def backward(self, loss: Tensor, own: int, batch: int) -> None:
        """Gradients of the mean over the whole batch, from the mean over the own part."""
        if self.fabric is None:
            loss.backward()
        else:  # processes are averaged with equal weights, whatever their parts' sizes
            self.fabric.backward(loss * (own * self.world / batch))

    def total(self, *values: float) -> list[float]:
        """Sums over all processes."""
        if self.fabric is None:
            return list(values)
        own = torch.tensor(values, dtype=torch.float64)
        return self.fabric.all_reduce(own, reduce_op="sum").tolist()

    def wait(self) -> None:
        """Until every process is here."""
        if self.fabric is not None:
            self.fabric.barrier()


def launch(
    body: Body, processes: int, device: torch.device | str, on_progress: OnProgress | None
) -> dict[str, Any]:
    """Run ``body(share, on_progress)`` in so many processes: the first one's result.

    Returns:
        ``weights`` (see ``from_bytes``), ``curves``, ``best_epoch`` and ``returned_epoch``.

    Args:
        body: can be sent to another process.
        device: "cpu", or "cuda" for one accelerator a process.

    Raises:
        DependencyError: Lightning Fabric is not installed.
        EngineError: a process failed; the message is that of the first one that did.
    """
    kind = _fabric()
    accelerator = "cuda" if str(device).startswith("cuda") else "cpu"
    fabric = kind(accelerator=accelerator, devices=processes, strategy="ddp_spawn")
    context = torch.multiprocessing.get_context("spawn")
    told = context.SimpleQueue()
    listener = threading.Thread(target=_listen, args=(told, on_progress), daemon=True)
    listener.start()
    try:
        with TemporaryDirectory(prefix="suture-") as private:
            weights = Path(private) / "weights.safetensors"
            facts = fabric.launch(_process, body, processes, told, weights)
            return facts | {"weights": weights.read_bytes()}
    except Exception as error:
        raise EngineError(
            expected=f"{processes} training processes to finish",
            got=str(error).strip().splitlines()[-1] if str(error).strip() else repr(error),
            remedy="With --processes 1 the error comes alone.",
        ) from error
    finally:
        told.put(None)
        listener.join(5)


def _process(fabric: Any, body: Body, processes: int, told: Any, weights: Path) -> dict[str, Any]:
    """The life of one process; only the first one's return is seen.

    It must be plain, and small: Lightning reads it when the processes have ended, and a large
    one would keep them waiting for a reader. So the weights go into a file.
    """
    warnings.filterwarnings("ignore", "Grad strides do not match")
    torch.set_num_threads(max(1, available_cores() // processes))
    share = Share(fabric, fabric.global_rank, fabric.world_size)
    result = body(share, told.put if share.rank == 0 else None)
    if share.rank == 0:
        weights.write_bytes(to_bytes(model_tensors(result.model)))
    share.wait()
    return {
        "curves": [dataclasses.asdict(curve) for curve in result.curves],
        "best_epoch": result.best_epoch,
        "returned_epoch": result.returned_epoch,
    }


def _listen(told: Any, on_progress: OnProgress | None) -> None:
    """Pass on what the first process reports, until ``None``."""
    while True:
        try:
            state = told.get()
        except (EOFError, OSError):
            return
        if state is None:
            return
        if on_progress is not None:
            on_progress(state)


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
