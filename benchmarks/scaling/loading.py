"""What the data loader costs an epoch of training."""

from __future__ import annotations

import time

import torch
from torch.nn.functional import cross_entropy

import harness
from suture import models
from suture.data.dataset import Split
from suture.data.stores import Memory
from suture.rng import Stream
from suture.training import TrainConfig
from suture.training.fitting import Fitting, make_optimiser

IMAGES, SHAPE, CLASSES, PIECE = 1_024, (3, 32, 32), 10, 128
CONFIG = TrainConfig(epochs=100, batch_size=PIECE, augment="flip-crop", schedule="none")


def rows() -> list[harness.Row]:
    """``overhead`` in processor seconds, one thread: an epoch of ``Fitting`` over bare steps."""
    stored = torch.randint(256, (IMAGES, *SHAPE), dtype=torch.uint8)
    labels, order = torch.arange(IMAGES) % CLASSES, torch.arange(IMAGES)
    fed = _Fed(Split("train", labels, order, Memory(stored), order))
    bare = _Bare(stored.float() / 255, labels)
    named = "the same steps on float tensors in memory, in order, not augmented"
    torch.set_num_threads(1)
    how = {"repeats": 5, "warm": 1, "clock": time.process_time, "images": IMAGES}
    return [harness.overhead("loader", fed, bare, named=named, **how)]


def _model() -> torch.nn.Module:
    return models.build("conv_cifar", in_shape=SHAPE, classes=CLASSES, seed=0)


class _Fed:
    def __init__(self, split: Split) -> None:
        model = _model()
        self.fitting = Fitting(
            model, make_optimiser(model, CONFIG), split, CLASSES, CONFIG, Stream(0),
            torch.device("cpu"),
        )  # fmt: skip
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        self.fitting.epoch(self.count, None)


class _Bare:
    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels, self.model = images, labels, _model()
        self.optimiser = make_optimiser(self.model, CONFIG)

    def __call__(self) -> None:
        self.model.train()
        for images, labels in zip(self.images.split(PIECE), self.labels.split(PIECE), strict=True):
            loss = cross_entropy(self.model(images), labels)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            float(loss.detach())
