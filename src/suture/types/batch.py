"""Images with their labels, held as tensors or decoded when somebody asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from suture.errors import DataError


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

    def select(self, chosen: Tensor) -> Batch:
        """Those of a bool mask or of positions."""
        return self[chosen]

    def split(self, size: int) -> Iterator[Batch]:
        """Consecutive pieces of at most ``size`` examples."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def feed(self, pieces: Sequence[Tensor]) -> Iterator[Batch]:
        """A batch for each piece's positions, int64."""
        return (self[positions] for positions in pieces)

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.device

    @property
    def known(self) -> str:
        """Empty: tensors are named by their pixels."""
        return ""

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


class LabelledImages(Protocol):
    """Images with their labels that are looked at in pieces, however many there are.

    A ``Batch`` is one, held as a tensor. A ``Split`` of a data set is another: its images lie on
    disk, and are decoded when somebody asks for them. Both can be sent to another process.
    """

    @property
    def labels(self) -> Tensor:
        """int64 ``(n,)``; they may lie on another device than the batches."""

    @property
    def images(self) -> Tensor:
        """All of them, ``(n, c, h, w)``. Of a split only where they fit: else an error."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of one image."""

    @property
    def device(self) -> torch.device:
        """Where the batches are."""

    @property
    def known(self) -> str:
        """Names the images, where that is cheaper than all their pixels; else empty."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | Tensor | list[int], /) -> Batch:
        """The chosen images, decoded."""

    def select(self, chosen: Tensor) -> LabelledImages:
        """Those of a bool mask or of positions, not decoded yet."""

    def split(self, size: int) -> Iterator[Batch]:
        """Consecutive batches of at most ``size`` images."""

    def feed(self, pieces: Sequence[Tensor]) -> Iterator[Batch]:
        """A batch for each piece's positions, int64, in that order; decoded ahead."""

    def to(self, device: torch.device | str) -> LabelledImages:
        """The same with batches on another device."""


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
            remedy="Divide by 255, or undo the normalisation: its mean and std go to the model "
            "(suture.wrap, or --mean and --std).",
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
