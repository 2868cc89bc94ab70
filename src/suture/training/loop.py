"""`train`: a model and a data set in, a trained copy and its history out."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from suture.data.dataset import Dataset
from suture.data.given import Data
from suture.data.loading import load
from suture.errors import ArgumentError, BundleError, DataError, ModelError, StorageError
from suture.rng import as_stream
from suture.training.config import TrainConfig
from suture.training.distributed import Share, launch
from suture.training.fitting import Fitting, evaluate, make_optimiser
from suture.training.history import MANIFEST, History, fill
from suture.training.result import EpochCurve, OnProgress, TrainResult, best_epoch
from suture.training.retention import Retention
from suture.training.weights import from_bytes, model_tensors, optimiser_tensors, restore_optimiser

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
        processes: how many train together, each on its share of every batch (distributed data
            parallel; needs ``suture[ddp]``).
        retention: which epochs ``history`` keeps; all, unless it says otherwise.

    Raises:
        ModelError: wrong logits, nothing to train, or a loss that is no longer a number.
        DataError: no training images.
        ArgumentError: ``patience`` without validation images, ``resume`` without ``history``.
        StorageError: the folder holds a history already, or cannot be written.
        BundleError: the history to resume was altered or belongs to another run.
        EngineError: one of several processes failed.
    """
    dataset = load(dataset)
    _check(dataset, config, history, resume)
    _check_processes(processes, config)
    place = None if history is None else HistoryPlace(Path(history), retention)
    body = partial(_train, model, dataset, config, seed, place, torch.device(device), resume)
    if processes == 1:
        return body(Share(), on_progress)
    found = launch(body, processes, device, on_progress)
    trained = copy.deepcopy(model).to(device).eval()
    trained.load_state_dict(from_bytes(found["weights"]))
    curves = tuple(EpochCurve(**curve) for curve in found["curves"])
    folder = None if history is None else Path(history)
    return TrainResult(trained, curves, found["best_epoch"], found["returned_epoch"], folder)


def _train(
    model: nn.Module,
    dataset: Dataset,
    config: TrainConfig,
    seed: int,
    history: HistoryPlace | None,
    device: torch.device,
    resume: bool,
    share: Share,
    on_progress: OnProgress | None,
) -> TrainResult:
    """Train in this process, alone or with others."""
    device = device if share.fabric is None else share.fabric.device
    run = _begin(model, dataset, config, seed, history, device, on_progress, share)
    if history is not None and resume and History.exists(history.folder):
        run.restore(History.open(history.folder))
    share.wait()
    if share.rank:
        run.history = None  # the first process writes it
    while not run.finished():
        run.advance()
    return run.result()


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


def _begin(
    model: nn.Module,
    dataset: Dataset,
    config: TrainConfig,
    seed: int,
    history: HistoryPlace | None,
    device: torch.device,
    on_progress: OnProgress | None,
    share: Share,
) -> _TrainingRun:
    trained = copy.deepcopy(model).to(device)
    fitting = Fitting(
        model=trained,
        optimiser=make_optimiser(trained, config),
        split=dataset.train,
        classes=dataset.classes,
        config=config,
        stream=as_stream(seed).child("training"),
        device=device,
        on_progress=on_progress,
        share=share,
    )
    written = None
    if history is not None:
        written = History(
            history.folder,
            repr(config),
            seed,
            fingerprint(dataset),
            retention=history.retention,
        )
    return _TrainingRun(fitting, dataset, written)


@dataclass(frozen=True)
class HistoryPlace:
    """Where the history goes, and which epochs stay in it."""

    folder: Path
    retention: Retention


@dataclass
class _TrainingRun:
    """Where a training run stands."""

    fitting: Fitting
    dataset: Dataset
    history: History | None
    curves: tuple[EpochCurve, ...] = ()
    best: dict[str, Tensor] | None = None

    def restore(self, found: History) -> None:
        """Go on from a history of the same run."""
        assert self.history is not None
        for name in ("config", "seed", "data"):
            if getattr(found, name) != getattr(self.history, name):
                raise _other_run(found, name, getattr(self.history, name))
        if not found.curves:
            return
        self.history = replace(found, retention=self.history.retention)
        self.curves = found.curves
        fill(self.fitting.model, found.state(found.epochs[-1]), found.folder)
        if found.optimiser is not None:
            restore_optimiser(self.fitting.optimiser, found.read(found.optimiser))
        self.best = found.state(found.best_epoch)

    def finished(self) -> bool:
        """Whether the last epoch is done, or patience is at its end."""
        return _finished(self.curves, self.fitting.config)

    def advance(self) -> None:
        """One more epoch: train, judge, remember."""
        started = time.perf_counter()
        epoch = len(self.curves) + 1
        previous = self.curves[-1].validation_accuracy if self.curves else None
        trained = self.fitting.epoch(epoch, previous)
        fitting = self.fitting
        judged = evaluate(
            fitting.model, self.dataset.validation, self.dataset.classes, fitting.device
        )
        _check_finite(judged[0], fitting.config, epoch)
        curve = EpochCurve(epoch, *trained, *judged, time.perf_counter() - started)
        self.curves = (*self.curves, curve)
        self._remember(curve)

    def _remember(self, curve: EpochCurve) -> None:
        weights = model_tensors(self.fitting.model)
        if best_epoch(self.curves) == curve.epoch:
            self.best = weights
        if self.history is not None:
            state = optimiser_tensors(self.fitting.optimiser)
            self.history = self.history.with_epoch(curve, weights, state, finished=self.finished())

    def result(self) -> TrainResult:
        """The trained model, with the weights the config asks for."""
        best, model = best_epoch(self.curves), self.fitting.model
        if self.fitting.config.keep_best and self.best is not None:
            model.load_state_dict(self.best)
        returned = best if self.fitting.config.keep_best else self.curves[-1].epoch
        folder = None if self.history is None else self.history.folder
        return TrainResult(model.eval(), self.curves, best, returned, folder)


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


def _other_run(found: History, name: str, wanted: object) -> BundleError:
    return BundleError(
        expected=f"the history of this very run in {found.folder}: {name} {wanted}",
        got=f"{name} {getattr(found, name)}",
        remedy="Resume with the same config, seed and data, or choose another folder.",
    )
