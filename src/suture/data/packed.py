"""The packed files of the data folder: JPEG or PNG bytes in one vector, and plain ``.npz`` sets."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from suture.data.arrays import Archive
from suture.data.checks import to_labels
from suture.data.npz import npz_part
from suture.data.parts import Part, SourceContent
from suture.data.reading import reading
from suture.data.stores import Decoded, Deferred
from suture.errors import DataError

CIFAR10 = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_TILE = 32


class PackedImages(Decoded):
    """JPEG images in one vector of bytes, decoded one by one.

    Args:
        archive: the file.
        content: name of the uint8 vector.
        offsets: name of the int64 vector ``(n + 1,)``; image i is ``content[offsets[i]:…[i+1]]``.
        size: ``(height, width)`` that every image must have.
    """

    def __init__(self, archive: Archive, content: str, offsets: str, size: tuple[int, int]) -> None:
        self._path = archive.path
        self._content, self._offsets = archive.array(content), archive.array(offsets)
        steps = np.diff(self._offsets)
        if len(steps) == 0 or steps.min() <= 0 or self._offsets[-1] != len(self._content):
            raise _damaged(self._path, f"offsets that do not fit {content}")
        super().__init__((len(steps), 3, *size))

    def _decode(self, row: int) -> np.ndarray:
        piece = self._content[self._offsets[row] : self._offsets[row + 1]].tobytes()
        with reading(self._path, f"a JPEG as image {row}"):
            image = Image.open(io.BytesIO(piece), formats=("JPEG",))
            if image.mode != "RGB" or image.size != self.shape[:1:-1]:
                raise _damaged(self._path, f"image {row} of {image.mode} {image.size}")
            return np.asarray(image)


class SheetImages(Deferred):
    """Tiles of one PNG sheet, row by row.

    Args:
        archive: the file; its array ``png`` holds the sheet's bytes.
        first, count: the tiles that belong to this set.
    """

    def __init__(self, archive: Archive, first: int, count: int) -> None:
        super().__init__((count, 3, _TILE, _TILE))
        self._archive, self._first = archive, first

    def _read(self) -> Tensor:
        content = self._archive.array("png").tobytes()
        with reading(self._archive.path, "a PNG sheet"):
            sheet = np.asarray(Image.open(io.BytesIO(content), formats=("PNG",)))
            down, across = sheet.shape[0] // _TILE, sheet.shape[1] // _TILE
            tiles = sheet.reshape(down, _TILE, across, _TILE, 3).transpose(0, 2, 4, 1, 3)
        tiles = tiles.reshape(-1, 3, _TILE, _TILE)[self._first :][: self.shape[0]]
        if len(tiles) < self.shape[0]:
            raise _damaged(self._archive.path, f"a sheet of {len(tiles)} tiles")
        return torch.from_numpy(np.ascontiguousarray(tiles))


def _damaged(path: Path, got: str) -> DataError:
    return DataError(
        expected=f"images packed as the data folder's README describes in {path}",
        got=got,
        remedy="The file is damaged or of another make: fetch the data folder again.",
    )


def read_plain(path: Path, class_names: tuple[str, ...]) -> SourceContent:
    """``mnist.npz`` and ``fashion_mnist.npz``: all images as they are."""
    archive = Archive(path)
    train, test = (npz_part(archive, f"x_{part}", f"y_{part}") for part in ("train", "test"))
    return SourceContent(path.stem, _source(path), class_names, train=train, test=test)


def read_cifar10_jpeg(path: Path) -> SourceContent:
    """``cifar10_jpeg.npz``: all 60 000 images in the official order, as lossy JPEG."""
    archive = Archive(path)
    train, test = (
        _jpeg_part(archive, f"jpeg_{part}", f"offsets_{part}", f"y_{part}", (_TILE, _TILE))
        for part in ("train", "test")
    )
    return SourceContent("cifar10-jpeg", _source(path), CIFAR10, train=train, test=test)


def read_cifar10_lossless(path: Path) -> SourceContent:
    """``cifar10_lossless.npz``: the pixel-exact 4 000 training and 483 test images."""
    archive = Archive(path)
    train_labels, test_labels = archive.array("y_train"), archive.array("y_test")
    train = _sheet_part(archive, 0, train_labels, archive.array("index_train"))
    test = _sheet_part(archive, len(train_labels), test_labels, archive.array("index_test"))
    return SourceContent("cifar10-exact", _source(path), CIFAR10, train=train, test=test)


def read_imagenet_sample(path: Path) -> SourceContent:
    """``imagenet_sample1000.npz``: one photo per class, 224 × 224; all of them are the test split.

    There is nothing to train on, so mean and standard deviation are ImageNet's usual constants.
    """
    archive = Archive(path)
    names = tuple(str(name).replace("_", " ") for name in archive.array("name"))
    test = _jpeg_part(archive, "jpeg", "offsets", "y", (224, 224))
    constants = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return SourceContent("imagenet-sample", _source(path), names, test=test, statistics=constants)


def _jpeg_part(
    archive: Archive, content: str, offsets: str, labels: str, size: tuple[int, int]
) -> Part:
    store = PackedImages(archive, content, offsets, size)
    where = f"{labels} in {archive.path}"
    return Part(store, to_labels(archive.array(labels), store.shape[0], where))


def _sheet_part(archive: Archive, first: int, labels: np.ndarray, index: np.ndarray) -> Part:
    store = SheetImages(archive, first, len(labels))
    where = f"labels in {archive.path}"
    checked = to_labels(labels, len(labels), where)
    return Part(store, checked, torch.from_numpy(index.astype(np.int64)))


def _source(path: Path) -> str:
    return f"data folder: {path.name}"
