"""One process' part of a training that several processes do together.

Every process has all weights. It takes its share of each batch, and gradients are summed over the
processes, weighted so that they are those of the whole batch's mean: weights move as in one process
with the same batch, up to the order in which floating-point sums are taken, and they are the same
in all processes. Batch normalisation sees a process' own share, and its running statistics are
averaged over the processes; dropout draws anew in each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from suture import memory
from suture.errors import require

MINUTES = 5.0
"""Between two points to resume from, within an epoch; every epoch ends with one."""


@dataclass(frozen=True)
class Crew:
    """Who trains together.

    Args:
        processes: how many, each on its share of every batch.
        minutes: at most so long from one point to resume from to the next.

    Raises:
        ArgumentError: a value out of range.
    """

    processes: int = 1
    minutes: float = MINUTES

    def __post_init__(self) -> None:
        checks = {"processes >= 1": self.processes >= 1, "minutes > 0": self.minutes > 0}
        require(checks, self, "For example --processes 4 --checkpoint-minutes 10.")


def _nobody(kind: str, value: Any) -> None:
    """The ``post`` of those that nobody listens to."""


@dataclass
class Share:
    """One process' part of the training.

    Attributes:
        rank, world: which process this is, out of how many.
        device: where it computes; ``None`` for where its tensors are.
        point: plain data of a point to go on from; ``None`` from the beginning.
        minutes: between two points within an epoch.
        post: takes ("tell", …) and ("keep", point) to whoever started the training; the first
            process' alone is heard.
    """

    rank: int = 0
    world: int = 1
    device: torch.device | None = None
    point: Any = None
    minutes: float = MINUTES
    post: Callable[[str, Any], None] = _nobody
    _kept: float = field(default_factory=time.monotonic, repr=False)

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The model whose backward averages gradients over all processes."""
        return model if self.world == 1 else DistributedDataParallel(model)

    def own(self, positions: Tensor) -> Tensor:
        """The process' part of a batch."""
        return positions[self.rank :: self.world]

    def backward(self, loss: Tensor, own: int, batch: int) -> None:
        """Gradients of the mean over the whole batch, of a ``wrapped`` model's own mean."""
        # Processes are averaged with equal weights, whatever their parts' sizes.
        scaled = loss if self.world == 1 else loss * (own * self.world / batch)
        scaled.backward()  # type: ignore[no-untyped-call]

    def mean(
        self, gradients: Sequence[Tensor | None], own: int, batch: int
    ) -> tuple[Tensor | None, ...]:
        """Of the mean over the whole batch, from those of the mean over the own part.

        Args:
            gradients: ``None`` for a parameter that the loss does not touch, in every process.
            own, batch: images in the own part, and in the whole batch.
        """
        if self.world == 1:
            return tuple(gradients)
        given = [g for g in gradients if g is not None]
        if not given:
            return tuple(gradients)
        flat = torch.cat([g.detach().flatten() for g in given]).mul_(own / batch)
        dist.all_reduce(flat)
        parts = iter(flat.split([g.numel() for g in given]))
        return tuple(None if g is None else next(parts).view_as(g) for g in gradients)

    @torch.no_grad()
    def level(self, model: nn.Module) -> None:
        """Average the running statistics of batch normalisation over the processes."""
        if self.world == 1:
            return
        moving = [
            value
            for module in model.modules()
            if isinstance(module, _BatchNorm) and module.training
            for value in (module.running_mean, module.running_var)
            if value is not None
        ]
        if moving:
            flat = torch.cat([value.flatten() for value in moving])
            dist.all_reduce(flat)
            for value, mean in zip(
                moving, flat.div_(self.world).split([v.numel() for v in moving]), strict=True
            ):
                value.copy_(mean.view_as(value))

    def total(self, *values: float) -> list[float]:
        """Sums over all processes."""
        if self.world == 1:
            return list(values)
        own = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(own)
        return own.tolist()

    def summed(self, values: Tensor) -> Tensor:
        """Sums over all processes, where the values are."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            dist.barrier()

    def tell(self, *what: Any) -> None:
        """Report how far the training is."""
        if self.rank == 0:
            self.post("tell", what)

    def keep(self, point: Any) -> None:
        """Give out plain data to resume from; the same in every process."""
        self._kept = time.monotonic()
        if self.rank == 0:
            self.post("keep", point)

    @property
    def due(self) -> bool:
        """Whether this process, the first, should ``keep`` a point now, within an epoch."""
        return self.rank == 0 and time.monotonic() - self._kept > 60 * self.minutes


Body = Callable[[Share], Any]
"""What every process does; the first one's plain result counts."""
Heard = Callable[..., None]
Keep = Callable[[Any], None]


def alone(body: Body, crew: Crew, point: Any, tell: Heard, keep: Keep) -> Any:
    """The body in this process."""

    def post(kind: str, value: Any) -> None:
        tell(*value) if kind == "tell" else keep(value)

    memory.keep()
    return body(Share(point=point, minutes=crew.minutes, post=post))
