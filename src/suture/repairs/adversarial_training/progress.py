"""Where an adversarial training stands: its epochs, and the weights that it may give back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Epoch:
    """One epoch in numbers.

    Attributes:
        epoch: counted from 1.
        loss: mean over the steps.
        rate: learning rate of the last step.
        clean, robust: of the averaged weights on held-out images, in [0, 1]; ``None`` where the
            epoch was not judged.
        watched: accuracy of the weights themselves under PGD; ``None`` where nobody watches.
        seconds: wall-clock since the training began, over all its sessions.
    """

    epoch: int
    loss: float
    rate: float
    clean: float | None
    robust: float | None
    watched: float | None
    seconds: float


@dataclass
class Standing:
    """Where a training stands: what a point to resume from holds, beside the weights.

    Attributes:
        epochs: those that are done.
        best: weights of the best judged epoch within the limit; ``None`` while there is none.
        best_epoch: that epoch, 0 while there is none.
        good: averaged weights of the last epoch that had not collapsed, where somebody watches.
        collapsed: whether training ended because of that.
        warm_up: epochs with a single step; cut short by a collapse.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    best_epoch: int = 0
    good: dict[str, Tensor] | None = None
    collapsed: bool = False
    warm_up: int = 0

    @property
    def seconds(self) -> float:
        """So far."""
        return self.epochs[-1].seconds if self.epochs else 0.0

    @property
    def best_row(self) -> Epoch | None:
        """The best epoch's numbers."""
        return next((e for e in self.epochs if e.epoch == self.best_epoch), None)

    def offer(self, row: Epoch, state: dict[str, Tensor], floor: float) -> None:
        """A judged epoch's weights: kept if they are the best within the limit.

        Args:
            row: of that epoch; one of ``epochs``.
            floor: the clean accuracy that must be left.
        """
        if row.clean is None or row.robust is None or row.clean < floor:
            return
        best = self.best_row
        if best is None or best.robust is None or row.robust > best.robust:
            self.best, self.best_epoch = copied(state), row.epoch

    def plain(self) -> dict[str, Any]:
        """Everything, as a run's ledger takes it; weights on the CPU."""
        plain = vars(self) | {"epochs": [asdict(row) for row in self.epochs]}
        for name in ("best", "good"):
            if plain[name] is not None:
                plain[name] = {key: value.cpu() for key, value in plain[name].items()}
        return plain

    @staticmethod
    def of(plain: dict[str, Any]) -> Standing:
        """The inverse of ``plain``."""
        return Standing(**plain | {"epochs": [Epoch(**row) for row in plain["epochs"]]})


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights in memory of their own."""
    return {name: value.detach().clone() for name, value in state.items()}
