"""`train`: a model and a data set in, a trained copy and its history out."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from suture.data.dataset import Dataset
from suture.data.given import Data
from suture.data.loading import load
from suture.engine import Crew, Engine, Inline, Share
from suture.engine.share import MINUTES
from suture.errors import ArgumentError, DataError, ModelError, StorageError
from suture.rng import as_stream
from suture.training.config import TrainConfig
from suture.training.fitting import Fitting, Within, evaluate, make_optimiser
from suture.training.history import MANIFEST, History
from suture.training.recording import HistoryPlace, Recording
from suture.training.result import EpochCurve, OnProgress, Progress, TrainResult, best_epoch
from suture.training.retention import Retention
from suture.training.weights import model_tensors, optimiser_tensors, restore_optimiser

_DEFAULT, _ALL = TrainConfig(), Retention()


def train(
    model: nn.Module,
    dataset: Dataset | Data,
    *,
    config: TrainConfig = _DEFAULT,
    seed: int = 0,
    history: Path | None = None,
    device: torch.device | str = "cpu",
    on_progress: OnProgress | None = None,
    resume: bool = False,
    processes: int = 1,
    engine: Engine | None = None,
    checkpoint_minutes: float = MINUTES,
    retention: Retention = _ALL,
) -> TrainResult:
    """Train a copy of the model on the training split; the validation split judges each epoch.

    The same seed gives the same weights on the same machine. The given model and torch's global
    random state are left as they were; the test split is never looked at.

    Args:
        model: a classifier, images in [0, 1] to logits.
        dataset: what to train on; or anything that ``suture.data.load`` takes.
        config: hyper-parameters.
        seed: of shuffling, augmentation and dropout (the initial weights are the model's).
        history: a folder for every epoch's weights (``History``); ``None`` keeps none.
        device: where to train.
        on_progress: called with a ``Progress`` after each batch.
        resume: go on from what ``history`` holds and end with the weights of an unbroken run; an
            empty folder starts from the beginning.
        processes: how many train together, each on its share of every batch (``suture[ddp]``).
        engine: with ``Ray``, the processes are of its cluster, and go on when a node is lost.
        checkpoint_minutes: between two points to resume from, within an epoch.
        retention: which epochs ``history`` keeps; all, unless it says otherwise.

    Raises:
        ModelError: wrong logits, nothing to train, or a loss that is no longer a number.
        DataError: no training images.
        ArgumentError: ``patience`` without validation images, or ``resume`` without ``history``.
        StorageError: the folder holds a history already, or cannot be written.
        BundleError: the history to resume was altered or belongs to another run.
        EngineError: one of several processes failed.
    """
    dataset = load(dataset)
    _check(dataset, config, history, resume)
    _check_processes(processes, config)
    recording = None
    if history is not None:
        place = HistoryPlace(Path(history), retention)
        recording = Recording.of(place, config, seed, fingerprint(dataset))
    given = copy.deepcopy(model).cpu()
    found = (engine or Inline()).together(
        partial(_train, given, dataset, config, seed, torch.device(device)),
        Crew(processes, checkpoint_minutes),
        device=str(device),
        point=recording.restored(model) if recording and resume else None,
        tell=on_progress or _unheard,
        keep=_forgotten if recording is None else recording.keep,
    )
    return _result(given.to(device), found, history)


def _result(model: nn.Module, found: dict[str, Any], history: Path | None) -> TrainResult:
    model.load_state_dict(found["weights"])
    curves = tuple(EpochCurve(**curve) for curve in found["curves"])
    folder = None if history is None else Path(history)
    return TrainResult(model.eval(), curves, found["best"], found["returned"], folder)


def _unheard(progress: Progress) -> None:
    """Where nobody wants to hear."""


def _forgotten(point: dict[str, Any]) -> None:
    """Where no history is kept."""


def _train(
    model: nn.Module,
    dataset: Dataset,
    config: TrainConfig,
    seed: int,
    device: torch.device,
    share: Share,
) -> dict[str, Any]:
    """Train in this process, alone or with others."""
    device = share.device or device
    trained = copy.deepcopy(model).to(device)  # processes share the memory of what they are given
    fitting = Fitting(
        model=trained,
        optimiser=make_optimiser(trained, config),
        split=dataset.train,
        classes=dataset.classes,
        config=config,
        stream=as_stream(seed).child("training"),
        device=device,
        share=share,
    )
    return _TrainingRun(fitting, dataset).run(share.point)


def _check_processes(processes: int, config: TrainConfig) -> None:
    if not 1 <= processes <= config.batch_size // 2 and processes != 1:
        raise ArgumentError(
            expected=f"1 to {max(1, config.batch_size // 2)} processes for batches of "
            f"{config.batch_size}",
            got=str(processes),
            remedy="Every process needs at least two images of each batch.",
        )


def _check(dataset: Dataset, config: TrainConfig, history: Path | None, resume: bool) -> None:
    if len(dataset.train) == 0:
        raise DataError(
            expected="training images",
            got=f"none in {dataset.name}",
            remedy="Use a data set with a training split (x_train and y_train in an .npz, train/ "
            "in a folder).",
        )
    if config.patience and len(dataset.validation) == 0:
        raise ArgumentError(
            expected="validation images, for early stopping",
            got="an empty validation split",
            remedy="Load the data with validation=0.1, or set patience=0.",
        )
    if resume and history is None:
        raise ArgumentError(
            expected="a history folder to resume from",
            got="history=None",
            remedy="Give the folder of the run that was interrupted.",
        )
    if history is not None and not resume and History.exists(history):
        raise StorageError(
            expected=f"no earlier history in {history}",
            got=f"a {MANIFEST}",
            remedy="Choose another folder, or pass resume=True to go on.",
        )


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 over the training split's positions, labels and first image, and the shape."""
    first = dataset.train.store.take(dataset.train.rows[:1])
    digest = hashlib.sha256(repr((dataset.in_shape, dataset.classes)).encode())
    for tensor in (dataset.train.index, dataset.train.labels, dataset.validation.index, first):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass
class _TrainingRun:
    """Where a training run stands."""

    fitting: Fitting
    dataset: Dataset
    curves: tuple[EpochCurve, ...] = ()
    best: dict[str, Tensor] | None = None
    within: Within = Within()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        self.fitting.keep = self._keep_within

    def run(self, point: dict[str, Any] | None) -> dict[str, Any]:
        """Train from the point on; the weights the config asks for, the curves and two epochs."""
        if point is not None:
            self._restore(point)
        self.fitting.share.wait()
        while not _finished(self.curves, self.fitting.config):
            self._advance()
        best, model = best_epoch(self.curves), self.fitting.model
        keep_best = self.fitting.config.keep_best and self.best is not None
        return {
            "weights": self.best if keep_best else model_tensors(model),
            "curves": [asdict(curve) for curve in self.curves],
            "best": best,
            "returned": best if self.fitting.config.keep_best else self.curves[-1].epoch,
        }

    def _restore(self, point: dict[str, Any]) -> None:
        self.curves = tuple(EpochCurve(**curve) for curve in point["curves"])
        self.best = point["best"]
        self.fitting.model.load_state_dict(point["weights"])
        restore_optimiser(self.fitting.optimiser, point["optimiser"])
        self.within = Within(**point["within"])

    def _advance(self) -> None:
        """One more epoch: train, judge, remember."""
        started, fitting = time.perf_counter(), self.fitting
        epoch = len(self.curves) + 1
        previous = self.curves[-1].validation_accuracy if self.curves else None
        trained = fitting.epoch(epoch, previous, self.within)
        self.within = Within()
        judged = evaluate(
            fitting.model,
            self.dataset.validation,
            self.dataset.classes,
            fitting.device,
            fitting.share,
        )
        _check_finite(judged[0], fitting.config, epoch)
        curve = EpochCurve(epoch, *trained, *judged, time.perf_counter() - started)
        self.curves = (*self.curves, curve)
        if best_epoch(self.curves) == epoch:
            self.best = model_tensors(fitting.model)
        fitting.share.keep(self._point())

    def _keep_within(self, within: Within) -> None:
        self.within = within
        self.fitting.share.keep(self._point())

    def _point(self) -> dict[str, Any]:
        return {
            "curves": [asdict(curve) for curve in self.curves],
            "best": self.best,
            "weights": model_tensors(self.fitting.model),
            "optimiser": optimiser_tensors(self.fitting.optimiser),
            "within": asdict(self.within),
            "finished": _finished(self.curves, self.fitting.config),
        }


def _finished(curves: tuple[EpochCurve, ...], config: TrainConfig) -> bool:
    if len(curves) >= config.epochs:
        return True
    return bool(config.patience and curves) and _waited(curves) >= config.patience


def _waited(curves: tuple[EpochCurve, ...]) -> int:
    """Epochs since validation accuracy last rose."""
    accuracies = [curve.validation_accuracy or 0.0 for curve in curves]
    return len(accuracies) - 1 - accuracies.index(max(accuracies))


def _check_finite(loss: float | None, config: TrainConfig, epoch: int) -> None:
    if loss is not None and not math.isfinite(loss):
        raise ModelError(
            expected="a finite validation loss",
            got=f"{loss} after epoch {epoch}",
            remedy=f"Lower the learning rate (it is {config.lr:g}).",
        )
