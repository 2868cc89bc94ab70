"""Images at rest: bytes as they were stored, decoded when somebody asks for them.

A store keeps ``(n, channels, height, width)`` in uint8 (0..255) or float32 (0..1). Two bases do the
work: ``Deferred`` reads everything at the first question, ``Decoded`` one image at a time. Where
they lie in a file as they are, ``InFile`` reads those that are asked for.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from suture.data.reading import reading

CACHE_BYTES = 2**28
"""A ``Decoded`` store larger than this decodes again instead of remembering."""

Shape = tuple[int, int, int, int]


class Images(Protocol):
    """What a split needs to know about its images."""

    @property
    def shape(self) -> Shape:
        """``(n, channels, height, width)``, known without decoding."""

    @property
    def slow(self) -> bool:
        """Whether images are decoded at every question: worth a process of its own."""

    def known(self, rows: Tensor) -> str:
        """Names the images of those rows without decoding them; empty where that is no cheaper."""

    def take(self, rows: Tensor) -> Tensor:
        """The images of those rows, int64 ``(k,)``, as stored: uint8 or float32."""


class _Quick:
    """What is read as it is."""

    @property
    def slow(self) -> bool:
        """Never."""
        return False

    def known(self, rows: Tensor) -> str:
        """Nothing is known but the pixels."""
        return ""


class Memory(_Quick):
    """Images that are in memory already: uint8 or float32 ``(n, channels, height, width)``."""

    def __init__(self, images: Tensor) -> None:
        self._images = images

    @property
    def shape(self) -> Shape:
        """``(n, channels, height, width)``."""
        n, channels, height, width = self._images.shape
        return n, channels, height, width

    def take(self, rows: Tensor) -> Tensor:
        """The images of those rows."""
        return self._images[rows]


class InFile(_Quick):
    """Images that lie uncompressed in a file, one after the other: read as they are asked for.

    They are read and not mapped into memory, where what was touched would stay.

    Args:
        path: the file.
        start: byte at which the first one begins.
        dtype: uint8 or floating point in [0, 1].
        stored: shape of the array as it lies there, ``(n, …)``.
        shape: ``(n, channels, height, width)`` of the images.
    """

    def __init__(
        self, path: Path, start: int, dtype: np.dtype, stored: tuple[int, ...], shape: Shape
    ) -> None:
        self._path, self._start, self._dtype = path, start, dtype
        self._stored, self._shape = stored, shape

    @property
    def shape(self) -> Shape:
        """``(n, channels, height, width)``."""
        return self._shape

    def take(self, rows: Tensor) -> Tensor:
        """The images of those rows, uint8 or float32."""
        each = math.prod(self._stored[1:]) * self._dtype.itemsize
        found = np.empty((len(rows), *self._stored[1:]), dtype=self._dtype)
        flat = found.reshape(-1).view(np.uint8).reshape(len(rows), each)
        with reading(self._path, "images"), self._path.open("rb") as file:
            for place, row in enumerate(rows.tolist()):
                file.seek(self._start + row * each)
                if file.readinto(flat[place].data) != each:
                    raise EOFError(f"the file ends before image {row}")
        return torch.from_numpy(np.ascontiguousarray(self._in_order(found)))

    def _in_order(self, images: np.ndarray) -> np.ndarray:
        if images.ndim == 3:
            images = images[:, None]
        elif self._stored[1:] != self._shape[1:]:
            images = images.transpose(0, 3, 1, 2)
        return images if images.dtype == np.uint8 else images.astype(np.float32)


class Deferred(_Quick, ABC):
    """Images that are read all at once, at the first question."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._images: Tensor | None = None

    @abstractmethod
    def _read(self) -> Tensor:
        """All images, ``(n, channels, height, width)``, uint8 or float32."""

    @property
    def shape(self) -> Shape:
        """``(n, channels, height, width)``, known without reading."""
        return self._shape

    def take(self, rows: Tensor) -> Tensor:
        """The images of those rows."""
        if self._images is None:
            self._images = self._read()
        return self._images[rows]


class Decoded(ABC):
    """Images that are decoded one by one, only where asked for, and remembered as uint8.

    Attributes:
        portable: can be sent to a process that knows nothing of this one, at little cost.
    """

    portable: ClassVar[bool] = False

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._known: np.ndarray | None = None
        self._images: np.ndarray | None = None

    @abstractmethod
    def _decode(self, row: int) -> np.ndarray:
        """One image, uint8 ``(height, width, channels)`` of exactly the announced shape."""

    @property
    def shape(self) -> Shape:
        """``(n, channels, height, width)``, known without decoding."""
        return self._shape

    @property
    def slow(self) -> bool:
        """Whether they are too many to be remembered."""
        return math.prod(self._shape) > CACHE_BYTES

    def known(self, rows: Tensor) -> str:
        """Nothing is known but the pixels, unless a store knows better."""
        return ""

    def __getstate__(self) -> dict[str, Any]:
        """Without what is remembered: it is decoded again where it is needed."""
        return vars(self) | {"_known": None, "_images": None}

    def take(self, rows: Tensor) -> Tensor:
        """The images of those rows, uint8."""
        if self.slow:
            return torch.from_numpy(self._fresh(rows.numpy()))
        if self._images is None or self._known is None:
            self._images = np.zeros(self._shape, dtype=np.uint8)
            self._known = np.zeros(self._shape[0], dtype=bool)
        for row in rows.numpy()[~self._known[rows.numpy()]]:
            self._images[row] = self._decode(int(row)).transpose(2, 0, 1)
            self._known[row] = True
        return torch.from_numpy(self._images[rows.numpy()])

    def _fresh(self, rows: np.ndarray) -> np.ndarray:
        images = np.zeros((len(rows), *self._shape[1:]), dtype=np.uint8)
        for place, row in enumerate(rows):
            images[place] = self._decode(int(row)).transpose(2, 0, 1)
        return images
