"""The historical models: what a training run remembers of itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from suture.data.dataset import Dataset, Split
from suture.data.stores import Memory
from suture.engine import Engine
from suture.errors import ArgumentError, BundleError, ModelError
from suture.repairs.base import OnProgress
from suture.rng import Stream
from suture.training import History, Progress, TrainConfig, train
from suture.types import LabelledImages

State = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Remembered:
    """Weights of the historical models, oldest first.

    Attributes:
        epochs: their numbers in the training run, counted from 1.
        states: their state dicts, on the CPU.
        origin: where they come from, for records.
    """

    epochs: tuple[int, ...]
    states: tuple[State, ...]
    origin: str

    def models(self, like: nn.Module) -> Iterator[nn.Module]:
        """Each of them in turn, in eval mode, in one copy of ``like``.

        Raises:
            BundleError: weights of another architecture.
        """
        model = copy.deepcopy(like).eval()
        for state in self.states:
            try:
                model.load_state_dict(state)
            except RuntimeError as error:
                raise BundleError(
                    expected="historical models of the architecture that is to be repaired",
                    got=str(error).splitlines()[-1].strip(),
                    remedy="Give the history of this very model's training.",
                ) from error
            yield model


def opened(folder: str) -> History:
    """The history in a folder, or in the run folder that holds it under ``checkpoints``.

    Raises:
        BundleError: there is none.
    """
    inner = Path(folder) / "checkpoints"
    return History.open(inner if History.exists(inner) else Path(folder))


def from_history(folder: str, share: float) -> Remembered:
    """The last ``share`` of the epochs that ``suture train`` remembers; every hash is compared.

    Args:
        folder: the history's folder, or the run's that holds it under ``checkpoints``.
        share: in (0, 1]; 0.5 is the paper's t/2.

    Raises:
        BundleError: no history there, or one that was altered.
    """
    history = opened(folder)
    if not history.epochs:
        raise BundleError(
            expected=f"at least one remembered epoch in {folder}",
            got="none: training was interrupted in its first epoch",
            remedy="Train on with --resume.",
        )
    count = len(history.epochs)
    epochs = history.epochs[min(count - 1, round(count * (1 - share))) :]
    if share == 0.5:
        epochs = history.last_half()
    return Remembered(
        tuple(epochs), tuple(history.state(e) for e in epochs), f"history of {count} epochs"
    )


def no_history() -> ArgumentError:
    """What to say where only the final model is at hand."""
    return ArgumentError(
        expected="the training history that DARE looks for better selves in",
        got="a model alone",
        remedy="Give history=FOLDER (--history) of its `suture train` run. If there is none any "
        "more, retrain=EPOCHS (--retrain) trains a copy on from these weights on half of the "
        "images and remembers that: a new history, not the one that led to this model.",
    )


def retrained(
    model: nn.Module,
    data: LabelledImages,
    epochs: int,
    lr: float,
    stream: Stream,
    engine: Engine,
    work: str,
    tell: OnProgress,
) -> Remembered:
    """A short training from the given weights, remembered: all its epochs count.

    This is not how the model came about. The historical models are its descendants, trained on
    ``data``, and they know nothing of the epochs before.

    Args:
        engine: keeps the result in a run's ledger.
        work: says what is computed, for the ledger.
        tell: told about every batch.
    """
    kept = engine.recall("retraining", work)
    if kept is None:
        kept = {"states": _trained_on(model, data, epochs, lr, stream, tell)}
        engine.note("retraining", kept, work=work)
    states = tuple(dict(state) for state in kept["states"])
    return Remembered(tuple(range(1, epochs + 1)), states, f"re-trained for {epochs} epochs")


def _trained_on(
    model: nn.Module, data: LabelledImages, epochs: int, lr: float, stream: Stream, tell: OnProgress
) -> list[State]:
    if not any(p.requires_grad for p in model.parameters()):
        raise ModelError(
            expected="a model with parameters to train",
            got="none that requires a gradient",
            remedy="Unfreeze some: parameter.requires_grad_(True).",
        )
    config = TrainConfig(epochs=epochs, lr=lr, schedule="none", keep_best=False)

    def told(at: Progress) -> None:
        tell("re-training", (at.epoch - 1) * at.batches + at.batch, epochs * at.batches)

    with TemporaryDirectory(prefix="suture-") as folder:
        train(
            model,
            _dataset(data),
            config=config,
            seed=stream.key & ((1 << 62) - 1),
            history=Path(folder) / "history",
            on_progress=told,
        )
        history = History.open(Path(folder) / "history")
        return [history.state(epoch) for epoch in history.epochs]


def _dataset(data: LabelledImages) -> Dataset:
    """Images as a data set without validation and test images."""
    labels, rows = data.labels.cpu(), torch.arange(len(data))
    whole = data if isinstance(data, Split) else None
    if whole is None:
        whole = Split("train", labels, rows, Memory(data.images.cpu()), rows)
    empty = whole.select(rows[:0])
    splits = {name: replace(empty, name=name) for name in ("validation", "test")}
    splits["train"] = replace(whole, name="train", device=torch.device("cpu"))
    classes = int(labels.max()) + 1
    names = tuple(str(label) for label in range(classes))
    return Dataset(
        "images in memory",
        names,
        data.shape,
        "memory",
        "",
        splits["train"],
        splits["validation"],
        splits["test"],
    )
