"""Callbacks for Lightning's trainer: robust accuracy on the way, and a history for DARE."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from suture.attacks import Attack
from suture.data import Dataset
from suture.data.given import Data, batch_of
from suture.ecosystem.needed import needed
from suture.errors import StorageError, require
from suture.evaluate.metrics import clopper_pearson
from suture.models import untouched
from suture.training import EpochCurve, History, Retention
from suture.training.loop import fingerprint
from suture.training.weights import model_tensors, optimiser_tensors
from suture.types import Batch

Of = Callable[[Any], nn.Module]
"""The classifier inside a LightningModule: images in [0, 1] to logits."""

if "lightning.pytorch" in sys.modules:  # both packages hold the same classes under two names
    _lightning: Any = sys.modules["lightning.pytorch"]
else:
    _lightning = needed("pytorch_lightning", "lightning", "callbacks of its trainer")


@dataclass(frozen=True)
class AttackedEpoch:
    """What an attack left after an epoch.

    Attributes:
        epoch: counted from 1.
        right, robust, n: images right before and after the attack, out of how many.
    """

    epoch: int
    right: int
    robust: int
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Clopper-Pearson interval of the robust accuracy, as shares in [0, 1]."""
        return clopper_pearson(self.robust, self.n)


class RobustAccuracy(_lightning.Callback):
    """Attack held-out images every so many epochs and log what is left.

    Logs ``NAME`` and ``NAME_clean``, shares in [0, 1]: monitor them as any metric. The model's mode
    and torch's random state are as before, so the training is the one without the callback.

    Args:
        attack: of suture.
        data: images in [0, 1] with labels, as ``suture.data.batch_of`` takes them; not those that
            are trained on.
        every: epochs between two measurements, at least 1.
        of: the classifier inside the LightningModule; default: the module itself.
        name: of the logged metric.
        seed: of the attack; the same every time, so that epochs can be compared.
        batch_size: images attacked at a time.

    Raises:
        ArgumentError: ``every`` or ``batch_size`` below 1.
        DataError: no labelled images in [0, 1].
    """

    def __init__(
        self,
        attack: Attack,
        data: Data,
        *,
        every: int = 1,
        of: Of = lambda module: module,
        name: str = "robust_accuracy",
        seed: int = 0,
        batch_size: int = 256,
    ) -> None:
        checks = {"every >= 1": every >= 1, "batch_size >= 1": batch_size >= 1}
        require(checks, (every, batch_size), "For example every=5.")
        self.attack, self.batch, self.every, self.of = attack, batch_of(data), every, of
        self.name, self.seed, self.batch_size = name, seed, batch_size
        self.found: list[AttackedEpoch] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure, where it is the epoch's turn."""
        epoch = trainer.current_epoch + 1
        if epoch % self.every:
            return
        one = self.measure(pl_module, epoch)
        self.found.append(one)
        pl_module.log(self.name, one.robust / one.n)
        pl_module.log(f"{self.name}_clean", one.right / one.n)

    def measure(self, pl_module: Any, epoch: int) -> AttackedEpoch:
        """Attack the classifier as it stands."""
        model = self.of(pl_module)
        with untouched(pl_module), torch.inference_mode(False), torch.enable_grad():
            result = self.attack(
                model,
                self.batch.to(pl_module.device),
                generator=self.seed,
                batch_size=self.batch_size,
            )
        right, robust = int(result.clean_right.sum()), int(result.robust.sum())
        return AttackedEpoch(epoch, right, robust, len(self.batch))


class EpochMemory(_lightning.Callback):
    """Remember every epoch's weights as ``suture train`` does, for DARE.

    The curves are measured after each epoch on images of the data set, in eval mode.

    Args:
        folder: where the history goes; it must hold none.
        dataset: what is trained on; DARE notes it if it is given another one.
        of: the classifier inside the LightningModule; default: the module itself. The history has
            the names of its weights.
        retention: which epochs stay.
        images: of each split that the curves are measured on, at most.

    Raises:
        StorageError: when training begins: there is a history in the folder already.
    """

    def __init__(
        self,
        folder: str | Path,
        dataset: Dataset,
        *,
        of: Of = lambda module: module,
        retention: Retention | None = None,
        images: int = 1000,
    ) -> None:
        self.folder, self.dataset, self.of = Path(folder), dataset, of
        self.retention, self.images = retention or Retention(), images
        self.history: History | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin the history."""
        if History.exists(self.folder):
            raise StorageError(
                expected=f"no earlier history in {self.folder}",
                got="one",
                remedy="Choose another folder.",
            )
        if trainer.is_global_zero:
            data = fingerprint(self.dataset)
            config = f"Lightning, {type(pl_module).__name__}"
            self.history = History(self.folder, config, 0, data, retention=self.retention)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Keep the weights."""
        if self.history is None:
            return
        model = self.of(pl_module)
        with untouched(pl_module):
            curve = self._curve(model, trainer.current_epoch + 1, pl_module.device)
        optimiser = optimiser_tensors(trainer.optimizers[0]) if trainer.optimizers else {}
        self.history = self.history.with_epoch(
            curve, model_tensors(model), optimiser, finished=False
        )

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the history."""
        if self.history is not None and self.history.curves:
            self.history = dataclasses.replace(self.history, finished=True)
            self.history.save()

    def _curve(self, model: nn.Module, epoch: int, device: torch.device) -> EpochCurve:
        loss, accuracy = _measured(model, self.dataset.train.batch(self.images).to(device))
        held: tuple[float | None, float | None] = (None, None)
        if len(self.dataset.validation):
            held = _measured(model, self.dataset.validation.batch(self.images).to(device))
        return EpochCurve(epoch, loss, accuracy, *held, seconds=0.0)


@torch.no_grad()
def _measured(model: nn.Module, batch: Batch) -> tuple[float, float]:
    """Mean cross entropy and accuracy."""
    logits: Tensor = model(batch.images)
    right = (logits.argmax(1) == batch.labels).float().mean()
    return float(nn.functional.cross_entropy(logits, batch.labels)), float(right)
