"""One epoch of training, and a look at the validation split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer, RMSprop

from suture.data.dataset import Split
from suture.data.splits import permutation
from suture.engine import Share
from suture.errors import ModelError
from suture.rng import Stream
from suture.training.augment import augmented
from suture.training.config import TrainConfig, learning_rate
from suture.training.result import Progress
from suture.types import Batch

_EVALUATION_BATCH = 512


def make_optimiser(model: nn.Module, config: TrainConfig) -> Optimizer:
    """The optimiser over the parameters that want a gradient.

    Raises:
        ModelError: when there are none.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ModelError(
            expected="a model with parameters to train",
            got="none that requires a gradient",
            remedy="Unfreeze some: parameter.requires_grad_(True).",
        )
    if config.optimiser == "adam":
        return AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    kind = SGD if config.optimiser == "sgd" else RMSprop
    return kind(
        parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )


@contextmanager
def own_random_state(stream: Stream, device: torch.device) -> Iterator[None]:
    """Seed what dropout draws from, and give the global state back afterwards."""
    cuda = [device] if device.type == "cuda" else []
    seed = stream.key & ((1 << 63) - 1)
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@dataclass(frozen=True)
class Within:
    """Where an epoch stands, between two of its batches.

    Attributes:
        batches: that are done.
        loss, right, seen: sums over them: loss times images, images that were right, images.
    """

    batches: int = 0
    loss: float = 0.0
    right: int = 0
    seen: int = 0


def _unkept(within: Within) -> None:
    """The ``keep`` of those who keep nothing within an epoch."""


@dataclass
class Fitting:
    """A model while it is trained.

    Args:
        model: trained in place.
        optimiser: over its parameters.
        split: the training images.
        classes: how many logits the model must give.
        config: hyper-parameters.
        stream: of the run; each epoch takes children by its number.
        device: where the model is.
        share: this process' part, where several train together; told after each batch.
        keep: called within an epoch, when a point to resume from is due.
    """

    model: nn.Module
    optimiser: Optimizer
    split: Split
    classes: int
    config: TrainConfig
    stream: Stream
    device: torch.device
    share: Share = field(default_factory=Share)
    keep: Callable[[Within], None] = _unkept

    def __post_init__(self) -> None:
        self._wrapped = self.share.wrapped(self.model)

    def epoch(
        self, epoch: int, previous: float | None, at: Within = Within()
    ) -> tuple[float, float]:
        """Train one epoch; ``(mean loss, accuracy)`` over its batches.

        Args:
            epoch: counted from 1.
            previous: validation accuracy so far, for the progress report.
            at: where in the epoch to go on.

        Raises:
            ModelError: for logits of a wrong shape, or a loss that is no longer a number.
        """
        self.model.train()
        pieces = self._pieces(epoch)
        dropout = self.stream.child("dropout").child(epoch)
        dropout = dropout.child(self.share.rank) if self.share.rank else dropout
        owned = [self.share.own(piece) for piece in pieces[at.batches :]]
        for k, batch in enumerate(self.split.feed(owned), at.batches):
            self._set_rate(learning_rate(self.config, epoch, k / len(pieces)))
            with own_random_state(dropout.child(k), self.device):
                loss, hits = self._step(batch, self.share.own(pieces[k]), pieces[k], epoch)
            count = len(pieces[k])
            at = Within(k + 1, at.loss + loss * count, at.right + hits, at.seen + count)
            self.share.tell(Progress(epoch, self.config.epochs, k + 1, len(pieces), loss, previous))
            if self.share.due and k + 1 < len(pieces):
                self.keep(at)
        self.share.level(self.model)
        return at.loss / at.seen, at.right / at.seen

    def _pieces(self, epoch: int) -> list[Tensor]:
        """The epoch's batches as positions in the training split."""
        order = permutation(len(self.split), self.stream.child("order").child(epoch))
        pieces = list(order.split(self.config.batch_size))
        # Batch normalisation cannot be trained on a single image; and nobody trains on none.
        least = max(2, self.share.world)
        return pieces[:-1] if len(pieces) > 1 and len(pieces[-1]) < least else pieces

    def _set_rate(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def _step(self, batch: Batch, own: Tensor, positions: Tensor, epoch: int) -> tuple[float, int]:
        """One optimiser step; the batch's mean loss and how many were right.

        Args:
            batch: this process' images. own: their positions. positions: everybody's.
        """
        stream = self.stream.child("augment").child(epoch)
        images = augmented(batch.images, own, self.config.augment, stream).to(self.device)
        labels = batch.labels.to(self.device)
        logits = logits_of(self._wrapped, images, self.classes)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        hits = int((logits.detach().argmax(1) == labels).sum())
        value = float(loss.detach())
        if self.share.world > 1:
            totals = self.share.total(value * len(own), hits)
            value, hits = totals[0] / len(positions), int(totals[1])
        if not math.isfinite(value):
            raise self._diverged(value, epoch)
        self.optimiser.zero_grad(set_to_none=True)
        self.share.backward(loss, len(own), len(positions))
        self.optimiser.step()
        return value, hits

    def _diverged(self, value: float, epoch: int) -> ModelError:
        return ModelError(
            expected="a finite training loss",
            got=f"a loss of {value} in epoch {epoch}",
            remedy=f"Lower the learning rate (it is {self.config.lr:g}), or normalise the inputs.",
        )


def logits_of(model: nn.Module, images: Tensor, classes: int) -> Tensor:
    """The model's logits, checked for shape.

    Raises:
        ModelError: unless they have shape ``(n, classes)``.
    """
    logits = model(images)
    if not isinstance(logits, Tensor) or logits.shape != (len(images), classes):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(
            expected=f"logits of shape ({len(images)}, {classes}) for this data set",
            got=str(got),
            remedy="Build the model for the data set's number of classes.",
        )
    return logits


@torch.no_grad()
def evaluate(
    model: nn.Module,
    split: Split,
    classes: int,
    device: torch.device,
    share: Share | None = None,
) -> tuple[float | None, float | None]:
    """``(mean cross entropy, accuracy)`` over a split in eval mode; ``None`` for an empty one.

    With a share, each process evaluates its own.
    """
    if len(split) == 0:
        return None, None
    model.eval()
    share, total = share or Share(), len(split)
    if share.world > 1:
        split = split.select(share.own(torch.arange(total)))
    loss, right = 0.0, 0
    for batch in split.batches(_EVALUATION_BATCH):
        logits = logits_of(model, batch.images.to(device), classes)
        labels = batch.labels.to(device)
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        right += int((logits.argmax(1) == labels).sum())
    loss, right = share.total(loss, right)  # type: ignore[assignment]
    return loss / total, right / total
