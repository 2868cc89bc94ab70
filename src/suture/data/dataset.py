"""A data set: three disjoint splits, decoded when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from suture.data.splits import permutation
from suture.data.stores import Images
from suture.errors import ArgumentError, DataError
from suture.rng import Stream
from suture.types import Batch

_PIECE = 4_096


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Some of a data set's images with their labels, in the order of the original.

    Attributes:
        name: "train", "validation" or "test".
        labels: int64 ``(n,)``.
        index: int64 ``(n,)``, each image's position in the official set it comes from.
        store: where the images lie; use ``batch`` or ``arrays`` to get at them.
        rows: int64 ``(n,)``, each image's row in the store.
    """

    name: str
    labels: Tensor
    index: Tensor
    store: Images
    rows: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Split(name={self.name!r}, images={len(self)})"

    def batch(
        self, n: int | None = None, *, start: int = 0, shuffle_stream: Stream | None = None
    ) -> Batch:
        """At most ``n`` images from position ``start`` as float32 in [0, 1], with labels.

        Args:
            n: how many; fewer come when the split ends before; ``None`` for all the rest.
            start: position of the first.
            shuffle_stream: draw the order from this stream; ``None`` keeps the original order.
                The same stream gives the same order, so consecutive pieces are disjoint.

        Raises:
            ArgumentError: for ``n`` below 1 or ``start`` below 0.
            DataError: when the split has no image at ``start``, or a file is damaged.
        """
        self._check_piece(n, start)
        order = self._order(shuffle_stream)
        return self._take(order[start:] if n is None else order[start : start + n])

    def batches(self, size: int, *, shuffle_stream: Stream | None = None) -> Iterator[Batch]:
        """The whole split in consecutive batches of at most ``size`` images."""
        order = self._order(shuffle_stream)
        for start in range(0, len(self), size):
            yield self._take(order[start : start + size])

    def _order(self, stream: Stream | None) -> Tensor:
        return torch.arange(len(self)) if stream is None else permutation(len(self), stream)

    def _take(self, chosen: Tensor) -> Batch:
        return Batch(to_float(self.store.take(self.rows[chosen])), self.labels[chosen])

    def arrays(self) -> tuple[Tensor, Tensor]:
        """``(images, labels)`` as stored: uint8 or float32 ``(n, c, h, w)``, and int64 ``(n,)``."""
        return self.store.take(self.rows), self.labels

    def select(self, chosen: Tensor) -> Split:
        """The images of a bool mask or of positions, for example ``split.index < 100``."""
        parts = (self.labels[chosen], self.index[chosen], self.store, self.rows[chosen])
        return Split(self.name, *parts)

    def _check_piece(self, n: int | None, start: int) -> None:
        if (n is not None and n < 1) or start < 0:
            raise ArgumentError(
                expected="n of at least 1 and start of at least 0",
                got=f"n={n}, start={start}",
                remedy="Leave n out for the whole split.",
            )
        if len(self) == 0:
            what = {"train": "training"}.get(self.name, self.name)
            raise DataError(
                expected=f"{what} images",
                got="an empty split: the data set has none",
                remedy=f"Use a data set that has some (x_{self.name} and y_{self.name} in an .npz, "
                f"{self.name}/ in a folder).",
            )
        if start >= len(self):
            raise DataError(
                expected=f"an image at position {start} of the {self.name} split",
                got=f"a split of {len(self)} images",
                remedy="Ask for an earlier position, or use another split of the data set.",
            )


def to_float(images: Tensor) -> Tensor:
    """float32 in [0, 1]: bytes are divided by 255, floats stay as they are."""
    return images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A named data set with disjoint training, validation and test splits.

    Attributes:
        name: the name it can be loaded by again, or the path it came from.
        class_names: one per class, in the order of the labels.
        in_shape: ``(channels, height, width)`` of every image.
        source: where these very pixels came from, for records ("data folder: mnist.npz").
        notes: what a reader of its numbers should know (lossy copy, selection bias, …).
        train, validation, test: the splits; one may be empty where the original has no such part.
        given_statistics: ``(mean, std)`` used where there is nothing to train on.
    """

    name: str
    class_names: tuple[str, ...]
    in_shape: tuple[int, int, int]
    source: str
    notes: str
    train: Split
    validation: Split
    test: Split
    given_statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}={len(split)}" for name, split in self.splits.items())
        return f"Dataset(name={self.name!r}, source={self.source!r}, {counts})"

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name."""
        return {split.name: split for split in (self.train, self.validation, self.test)}

    def undivided(self) -> Split:
        """All images that lie with the training images, in their order, as one training split."""
        own = [part for part in self.splits.values() if part.store is self.train.store]
        parts = ((part.labels, part.index, part.rows) for part in own)
        labels, index, rows = (torch.cat(values) for values in zip(*parts, strict=True))
        order = rows.argsort()
        return Split("train", labels[order], index[order], self.train.store, rows[order])

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean per channel of the training split, pixels in [0, 1]."""
        return self._statistics[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation per channel of the training split; 1 for a constant channel."""
        return self._statistics[1]

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if len(self.train) == 0:
            neutral = ((0.0,) * self.in_shape[0], (1.0,) * self.in_shape[0])
            return self.given_statistics or neutral
        return channel_statistics(self.train)


def channel_statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """``(mean, std)`` per channel over a whole split, accumulated in float64.

    The standard deviation is the population's (divided by n); a constant channel gets 1, so that
    dividing by it is harmless.
    """
    total = torch.zeros(split.store.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for rows in split.rows.split(_PIECE):
        pixels = split.store.take(rows).to(torch.float64).transpose(0, 1).flatten(1)
        total += pixels.sum(1)
        squares += (pixels**2).sum(1)
    _, _, height, width = split.store.shape
    count, scale = len(split) * height * width, _scale(split)
    mean = total / count
    std = (squares / count - mean**2).clamp(min=0).sqrt() / scale
    flat = std < 1e-6
    return tuple((mean / scale).tolist()), tuple(torch.where(flat, 1.0, std).tolist())


def _scale(split: Split) -> float:
    return 255.0 if split.store.take(split.rows[:1]).dtype == torch.uint8 else 1.0
