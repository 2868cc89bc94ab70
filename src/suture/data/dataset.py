"""A data set: three disjoint splits, decoded when asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from suture.data.feeding import fed
from suture.data.splits import permutation
from suture.data.stores import Images
from suture.errors import ArgumentError, DataError
from suture.rng import Stream
from suture.types import Batch

_PIECE = 4_096
_PIECE_VALUES = 2**24
RESIDENT = 2**30
"""Bytes of float32 images up to which a split is held as one tensor."""
MOST = 2**32
"""Bytes of float32 images that are never exceeded by one tensor of them."""


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Some of a data set's images with their labels, in the order of the original.

    Attributes:
        name: "train", "validation" or "test".
        labels: int64 ``(n,)``.
        index: int64 ``(n,)``, each image's position in the official set it comes from.
        store: where the images lie; use ``batch`` or ``arrays`` to get at them.
        rows: int64 ``(n,)``, each image's row in the store.
        device: where its batches go.
    """

    name: str
    labels: Tensor
    index: Tensor
    store: Images
    rows: Tensor
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable

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
        return self.feed(self._order(shuffle_stream).split(size) if len(self) else [])

    def split(self, size: int) -> Iterator[Batch]:
        """Consecutive batches of at most ``size`` images, in the original order."""
        return self.batches(size)

    def feed(self, pieces: Sequence[Tensor]) -> Iterator[Batch]:
        """A batch for each piece's positions, int64; decoded ahead by processes of their own."""
        rows = [self.rows[positions.cpu()] for positions in pieces]
        for stored, positions in zip(fed(self.store, rows), pieces, strict=True):
            yield self._batch(stored, positions)

    def __getitem__(self, index: slice | Tensor | list[int]) -> Batch:
        """The chosen images."""
        chosen = torch.arange(len(self))[index.cpu() if isinstance(index, Tensor) else index]
        return self._take(chosen)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of one image."""
        _, channels, height, width = self.store.shape
        return channels, height, width

    @property
    def nbytes(self) -> int:
        """Bytes that all of them take as float32."""
        return 4 * len(self) * math.prod(self.shape)

    @property
    def images(self) -> Tensor:
        """All of them as one tensor.

        Raises:
            ArgumentError: they take more than four gigabytes.
        """
        if self.nbytes > MOST:
            raise ArgumentError(
                expected=f"images of at most {MOST >> 30} GiB in all where a method needs them at "
                "once",
                got=f"{len(self)} of {self.shape}, {self.nbytes / 2**30:.0f} GiB",
                remedy=f"Give it fewer: samples={MOST // (self.nbytes // len(self))} (--samples) "
                "are the most that fit, or a data set of fewer or smaller images (--size).",
            )
        return self.batch().images

    @property
    def known(self) -> str:
        """Names the images, where that is cheaper than all their pixels; else empty."""
        return self.store.known(self.rows)

    def to(self, device: torch.device | str) -> Split:
        """The same split with batches on another device."""
        return replace(self, device=torch.device(device))

    def resident(self, device: torch.device | str = "cpu") -> Batch | Split:
        """All images as one batch where they take no more than a gigabyte, else the split."""
        placed = self.to(device)
        return placed if self.nbytes > RESIDENT else placed.batch()

    def _order(self, stream: Stream | None) -> Tensor:
        return torch.arange(len(self)) if stream is None else permutation(len(self), stream)

    def _take(self, chosen: Tensor) -> Batch:
        return self._batch(self.store.take(self.rows[chosen]), chosen)

    def _batch(self, stored: Tensor, positions: Tensor) -> Batch:
        labels = self.labels[positions.cpu()]
        return Batch(to_float(stored.to(self.device)), labels.to(self.device))

    def arrays(self) -> tuple[Tensor, Tensor]:
        """``(images, labels)`` as stored: uint8 or float32 ``(n, c, h, w)``, and int64 ``(n,)``."""
        return self.store.take(self.rows), self.labels

    def select(self, chosen: Tensor) -> Split:
        """The images of a bool mask or of positions, for example ``split.index < 100``."""
        chosen = chosen.cpu()
        parts = (self.labels[chosen], self.index[chosen], self.store, self.rows[chosen])
        return Split(self.name, *parts, self.device)

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
    size = max(1, min(_PIECE, _PIECE_VALUES // math.prod(split.shape)))
    for stored in fed(split.store, split.rows.split(size)):
        pixels = stored.to(torch.float64).transpose(0, 1).flatten(1)
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
