"""Plain frozen data with shapes: what flows from room to room."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from suture.errors import ArgumentError, DataError

Norm = Literal["linf", "l2", "l1", "l0"]
Knowledge = Literal["black-box", "white-box"]
NORMS: tuple[Norm, ...] = ("linf", "l2", "l1", "l0")


@dataclass(frozen=True, eq=False)
class Batch:
    """Images with their labels.

    Args:
        images: float32 ``(n, channels, height, width)``, values in [0, 1].
        labels: int64 ``(n,)``, each at least 0.

    Raises:
        DataError: for a wrong type, shape, range, a NaN, or an empty set.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        _check_images(self.images)
        _check_labels(self.labels, len(self.images))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor | list[int]) -> Batch:
        """The chosen examples as a batch of their own."""
        return Batch(self.images[index], self.labels[index])

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(self.images.to(device), self.labels.to(device))

    def split(self, size: int) -> Iterator[Batch]:
        """Consecutive pieces of at most ``size`` examples."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of one image."""
        channels, height, width = self.images.shape[1:]
        return int(channels), int(height), int(width)

    @staticmethod
    def concat(parts: list[Batch]) -> Batch:
        """The parts one after another."""
        images = torch.cat([part.images for part in parts])
        return Batch(images, torch.cat([part.labels for part in parts]))


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor):
        raise DataError(
            expected="images as a torch.Tensor",
            got=type(images).__name__,
            remedy="Convert with torch.as_tensor(images).",
        )
    if images.ndim != 4:
        raise DataError(
            expected="images of shape (n, channels, height, width)",
            got=f"shape {tuple(images.shape)}",
            remedy="Add the missing axis, for example images[:, None] for grey images.",
        )
    if images.numel() == 0:
        raise DataError(
            expected="at least one image with at least one pixel",
            got=f"shape {tuple(images.shape)}",
            remedy="Check the path, the split and the number of images asked for.",
        )
    if images.dtype != torch.float32:
        raise DataError(
            expected="float32 images in [0, 1]",
            got=str(images.dtype).removeprefix("torch."),
            remedy="Convert with images.float(), and divide by 255 if they are bytes.",
        )
    low, high = (float(v) for v in torch.aminmax(images.detach()))
    if low != low or high != high:
        raise DataError(
            expected="images without NaN",
            got="at least one NaN pixel",
            remedy="Find the broken file and remove or repair it.",
        )
    if low < 0.0 or high > 1.0:
        raise DataError(
            expected="pixel values in [0, 1]",
            got=f"values from {low:g} to {high:g}",
            remedy="Divide by 255, or undo the normalisation: suture puts it inside the model.",
        )


def _check_labels(labels: Tensor, count: int) -> None:
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != (count,):
        got = (
            f"{labels.dtype} of shape {tuple(labels.shape)}"
            if isinstance(labels, Tensor)
            else type(labels).__name__
        )
        raise DataError(
            expected=f"labels as int64 of shape ({count},), one per image",
            got=got,
            remedy="Convert with torch.as_tensor(labels, dtype=torch.int64).",
        )
    if int(labels.min()) < 0:
        raise DataError(
            expected="labels of at least 0",
            got=f"the label {int(labels.min())}",
            remedy="Number the classes 0, 1, 2, …",
        )


def check_classes(labels: Tensor, classes: int) -> None:
    """Raise ``DataError`` unless every label is below the model's number of classes."""
    highest = int(labels.max())
    if highest >= classes:
        raise DataError(
            expected=f"labels from 0 to {classes - 1}, for a model with {classes} classes",
            got=f"the label {highest}",
            remedy="Use the data set the model was made for, or a model with more classes.",
        )


def is_randomised(model: object) -> bool:
    """Whether a model draws at random in its forward pass and takes the draw as an argument.

    Such a module sets ``randomised = True`` and has ``forward(images, noise=None)``: ``noise`` is
    int64 ``(n,)``, 64 random bits per image, that decide the draw; without it the module draws by
    itself. Attacks pass each image's own bits, so that results do not depend on batch or order.
    A module may also have ``average(images, noise)`` with noise ``(draws, n)``: the mean logits,
    in one pass over what the draws share.
    """
    return bool(getattr(model, "randomised", False))


@dataclass(frozen=True, eq=False)
class Box:
    """An axis-aligned region ``lower <= x <= upper``; both tensors have the same shape."""

    lower: Tensor
    upper: Tensor

    def __post_init__(self) -> None:
        if self.lower.shape != self.upper.shape:
            raise ArgumentError(
                expected="lower and upper of one shape",
                got=f"{tuple(self.lower.shape)} and {tuple(self.upper.shape)}",
                remedy="Broadcast one to the other first.",
            )
        if not bool((self.lower <= self.upper).all()):
            raise ArgumentError(
                expected="lower <= upper everywhere, without NaN",
                got="at least one empty or NaN interval",
                remedy="Swap the bounds, or check the radius.",
            )

    @staticmethod
    def around(images: Tensor, eps: float) -> Box:
        """The L∞ ball of radius ``eps`` around images, clipped to [0, 1]."""
        return Box((images - eps).clamp(0, 1), (images + eps).clamp(0, 1))


@dataclass(frozen=True)
class ThreatModel:
    """What the attacker may do.

    Args:
        norm: "linf", "l2", "l1", or "l0" (number of pixels).
        eps: radius in that norm, pixel values in [0, 1]; ``inf`` for unbounded.
        queries: forwards per image the attacker may spend, ``None`` for no limit.
        knowledge: "black-box" (scores only) or "white-box" (gradients).
        targeted: whether a given class must be reached.
    """

    norm: Norm = "linf"
    eps: float = 8 / 255
    queries: int | None = None
    knowledge: Knowledge = "white-box"
    targeted: bool = False

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ArgumentError(
                expected=f"a norm out of {', '.join(NORMS)}",
                got=repr(self.norm),
                remedy='For example norm="linf".',
            )
        if not self.eps >= 0:
            raise ArgumentError(
                expected="a radius eps >= 0",
                got=f"eps={self.eps!r}",
                remedy="Radii are in pixel units of [0, 1]: 8 grey levels are 8/255.",
            )
