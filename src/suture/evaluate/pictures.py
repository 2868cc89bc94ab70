"""Attacked images at rest: a few in memory, more in the run's ledger or in a file without a name.

An evaluation keeps what its strongest attacker chooses from, row by row. Pieces come as they are
attacked, and are read again as they are asked for: memory holds one of them.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import IO, Any

import torch
from torch import Tensor

from suture.data import Split
from suture.types import LabelledImages

HELD = 2**28
"""Bytes of attacked images that an evaluation holds in memory."""
_CHUNK, _CHUNK_VALUES = 512, 2**24


def chunk_of(shape: tuple[int, ...]) -> int:
    """Images of that shape per forward where nothing is attacked: 512, or fewer of large ones."""
    return max(1, min(_CHUNK, _CHUNK_VALUES // math.prod(shape)))


class Pictures(ABC):
    """Images that are looked at in pieces, ``(n, c, h, w)``, like a tensor of them.

    Attributes:
        shape: ``(n, c, h, w)``.
        device: where the pieces are.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self.shape, self.device = shape, device

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def _at(self, rows: Tensor) -> Tensor:
        """The images of these rows, int64 ``(k,)`` on the CPU."""

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        rows = torch.arange(len(self))[index.cpu() if isinstance(index, Tensor) else index]
        return self._at(rows).to(self.device)

    def split(self, size: int) -> Iterator[Tensor]:
        """Consecutive pieces of at most ``size`` images."""
        return (self[start : start + size] for start in range(0, len(self), size))


class CleanPictures(Pictures):
    """The images of a set as they are."""

    def __init__(self, data: LabelledImages) -> None:
        super().__init__((len(data), *data.shape), data.device)
        self._data = data

    def _at(self, rows: Tensor) -> Tensor:
        return self._data[rows].images

    def split(self, size: int) -> Iterator[Tensor]:
        """Consecutive pieces of at most ``size`` images, decoded ahead."""
        return (piece.images for piece in self._data.split(size))


class Album(Pictures):
    """Images that came in pieces; made by ``Store.album``.

    Attributes:
        digest: SHA-256 of all of them, as of one tensor.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device, store: Store) -> None:
        super().__init__(shape, device)
        self._store, self._pieces, self._starts = store, list[Callable[[], Tensor]](), [0]
        self._hash, self._last = hashlib.sha256(repr(tuple(shape)).encode()), (-1, torch.empty(0))

    @property
    def digest(self) -> str:
        """What ``models.digest`` says of all of them."""
        return self._hash.hexdigest()

    @property
    def full(self) -> bool:
        """Whether all of them have come."""
        return self._starts[-1] == len(self)

    def add(self, images: Tensor, again: Callable[[], Tensor] | None = None) -> None:
        """The next images.

        Args:
            again: reads them where they are kept already, if they are.
        """
        images = images.detach().cpu().contiguous()
        self._hash.update(_bytes(images))
        self._pieces.append(self._store.keep(images, again))
        self._starts.append(self._starts[-1] + len(images))

    def _at(self, rows: Tensor) -> Tensor:
        found = torch.empty(len(rows), *self.shape[1:])
        numbers = torch.tensor([bisect_right(self._starts, row) - 1 for row in rows.tolist()])
        for number in numbers.unique().tolist():
            own = numbers == number
            found[own] = self._piece(number)[rows[own] - self._starts[number]]
        return found

    def _piece(self, number: int) -> Tensor:
        """The last one is at hand: who goes through in order reads each once."""
        if self._last[0] != number:
            self._last = (number, self._pieces[number]())
        return self._last[1]


class Store:
    """Where the images of an evaluation are kept: in memory up to a limit, then on disk.

    The file has no name: it goes with the last who uses it, however that ends. It lies in the
    system's folder for temporary files (``TMPDIR``).

    Args:
        limit: bytes held in memory.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._left = HELD if limit is None else limit
        self._file: IO[bytes] | None = None

    def album(self, shape: tuple[int, ...], device: torch.device) -> Album:
        """An empty one, for so many images."""
        return Album(shape, device, self)

    def keep(self, images: Tensor, again: Callable[[], Tensor] | None) -> Callable[[], Tensor]:
        """Reads them again, to the bit."""
        if images.nbytes <= self._left:
            self._left -= images.nbytes
            return lambda: images
        if again is not None:
            return again
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="suture-")  # noqa: SIM115 - it outlives this
        start = self._file.seek(0, os.SEEK_END)
        self._file.write(_bytes(images))
        self._file.flush()
        shape, file = tuple(images.shape), self._file
        return lambda: _read(file, start, shape)


def _read(file: IO[bytes], start: int, shape: tuple[int, ...]) -> Tensor:
    """Read, not mapped: what is mapped counts as memory until somebody else wants it."""
    content = bytearray(4 * math.prod(shape))
    view, done = memoryview(content), 0
    while done < len(content):
        got = os.preadv(file.fileno(), [view[done:]], start + done)
        if not got:
            raise EOFError(f"{len(content) - done} bytes are missing in a temporary file")
        done += got
    return torch.frombuffer(content, dtype=torch.float32).view(shape)


def _bytes(images: Tensor) -> memoryview:
    return images.flatten().view(torch.uint8).numpy().data


class _AlbumImages:
    """Images of an album as a data set's store."""

    def __init__(self, album: Pictures) -> None:
        self._album, self.shape, self.slow = album, album.shape, False

    def known(self, rows: Tensor) -> str:
        """Nothing but the pixels."""
        return ""

    def take(self, rows: Tensor) -> Tensor:
        """The images of those rows."""
        return self._album[rows].cpu()


def chosen(candidates: list[Album], which: Tensor) -> Album:
    """For each image one of its candidates, piece by piece.

    Args:
        candidates: sets of images of one shape.
        which: int64 ``(n,)``: whose image each is.
    """
    first, which = candidates[0], which.cpu()
    album = Store().album(first.shape, first.device)
    for rows in torch.arange(len(first)).split(chunk_of(first.shape[1:])):
        found, own = torch.empty(len(rows), *first.shape[1:]), which[rows]
        for number in own.unique().tolist():
            found[own == number] = candidates[number][rows[own == number]].cpu()
        album.add(found)
    return album


def moved(
    pictures: Pictures, labels: Tensor, move: Callable[[Tensor, Tensor], Tensor], store: Store
) -> Album:
    """What ``move(images, labels)`` makes of the pictures, piece by piece."""
    album, labels = store.album(pictures.shape, pictures.device), labels.to(pictures.device)
    size = min(256, chunk_of(pictures.shape[1:]))
    for images, own in zip(pictures.split(size), labels.split(size), strict=True):
        album.add(move(images, own))
    return album


def labelled(pictures: Pictures, labels: Tensor) -> LabelledImages:
    """The pictures with labels: as one batch where they are few."""
    rows, store = torch.arange(len(pictures)), _AlbumImages(pictures)
    made: Any = store  # attributes do for its properties
    return Split("test", labels.cpu(), rows, made, rows).resident(pictures.device)
