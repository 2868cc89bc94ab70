"""Any folder of pictures: a subfolder per class, or ``train/`` and ``test/`` with such subfolders.

Classes are the subfolders' names in alphabetic order, as in ``torchvision.datasets.ImageFolder``.
Pixels are taken as they are stored: EXIF orientation, colour profiles and alpha are ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from suture.data.parts import Part, SourceContent
from suture.data.reading import reading
from suture.data.stores import Decoded
from suture.errors import ArgumentError, DataError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".tif", ".tiff", ".webp")
)
MAX_PIXELS = 2**26
"""A picture with more pixels is refused before it is decoded (decompression bombs)."""

PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_GREY, _COLOUR = ("L", "1"), ("RGB", "RGBA", "P", "LA", "CMYK", "YCbCr", "PA")
Size = tuple[int, int]


@dataclass(frozen=True)
class PictureKind:
    """What all pictures of a set share: grey or not, and ``(height, width)``."""

    grey: bool
    size: Size
    resize: bool


class FolderImages(Decoded):
    """Pictures in files, decoded one by one."""

    portable = True

    def __init__(self, files: Sequence[Path], kind: PictureKind) -> None:
        super().__init__((len(files), 1 if kind.grey else 3, *kind.size))
        self._files, self._kind = list(map(str, files)), kind  # a path takes seven times as much

    def known(self, rows: Tensor) -> str:
        """SHA-256 of the files' bytes, and of how they are decoded."""
        found = hashlib.sha256(repr((self._kind, *self._shape[1:], len(rows))).encode())
        for row in rows.tolist():
            path = Path(self._files[row])
            with reading(path, "a picture"):
                found.update(hashlib.sha256(path.read_bytes()).digest())
        return f"files {found.hexdigest()}"

    def _decode(self, row: int) -> np.ndarray:
        path = Path(self._files[row])
        with reading(path, "a picture"):
            return pixels_of(path, self._kind)


def pixels_of(source: Path | IO[bytes], kind: PictureKind) -> np.ndarray:
    """A picture as uint8 ``(height, width, channels)``."""
    with Image.open(source, formats=FORMATS) as image:
        try:
            picture = image.convert("L" if kind.grey else "RGB")
        except MemoryError as error:  # a damaged chunk that announces gigabytes
            raise ValueError("a part larger than memory") from error
        if kind.resize:
            picture = picture.resize(kind.size[::-1], Image.Resampling.BILINEAR)
        pixels = np.asarray(picture)
    return pixels[..., None] if kind.grey else pixels


def read_image_folder(folder: Path, size: int | Size | None = None) -> SourceContent:
    """The data set in a folder of pictures.

    Args:
        folder: with a subfolder per class, or with ``train`` and ``test`` (and ``val``) that have.
        size: ``(height, width)`` to resize every picture to (bilinear, antialiased, aspect ratio
            not kept); one number for a square; ``None``: all must have the same size already.

    Raises:
        DataError: for no pictures, an empty class, different sizes, a damaged or huge picture,
            or classes under ``test`` that ``train`` does not have.
    """
    folders = _part_folders(folder) or {"whole": folder}
    listed = {name: _class_files(place) for name, place in folders.items()}
    names = tuple(listed["train" if "train" in listed else next(iter(listed))])
    _check_classes(listed, names, folder)
    kind = kind_of_files([f for part in listed.values() for fs in part.values() for f in fs], size)
    parts = {name: part_of(files, names, kind) for name, files in listed.items()}
    return SourceContent.of(str(folder), f"{folder} (pictures)", names, parts)


def _part_folders(folder: Path) -> dict[str, Path]:
    """The ``train``/``test`` subfolders; none where the folder holds the classes themselves."""
    known = {
        part: place
        for part, names in PARTS.items()
        for name in names
        if (place := folder / name).is_dir()
    }
    return known if {"train", "test"} & set(known) else {}


def _class_files(folder: Path) -> dict[str, list[Path]]:
    """Class name → its picture files, both in alphabetic order."""
    with reading(folder, "a folder of pictures"):
        classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        files = {place.name: pictures_in(place) for place in classes}
    empty = [name for name, found in files.items() if not found]
    if not files or empty:
        raise DataError(
            expected=f"class subfolders with pictures in {folder} ({', '.join(sorted(SUFFIXES))})",
            got=f"no picture in {empty[0]!r}" if empty else "no subfolders",
            remedy="Put each class's pictures into a subfolder named after the class.",
        )
    return files


def pictures_in(folder: Path) -> list[Path]:
    """Picture files in alphabetic order."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


def _check_classes(
    listed: dict[str, dict[str, list[Path]]], names: tuple[str, ...], folder: Path
) -> None:
    for part, files in listed.items():
        unknown = sorted(set(files) - set(names))
        if unknown:
            raise DataError(
                expected=f"the same classes in every part of {folder}: {', '.join(names)}",
                got=f"the class {unknown[0]!r} in {part}",
                remedy="Rename the subfolder, or add the class to the training part.",
            )


def kind_of_files(files: list[Path], size: int | Size | None) -> PictureKind:
    """Grey if every picture is; the common size, from headers alone."""
    return common_kind([header(path, path) for path in files], list(map(str, files)), size)


def common_kind(
    headers: list[tuple[str, Size]], files: Sequence[str], size: int | Size | None
) -> PictureKind:
    """Grey if every picture is; the common size.

    Args:
        headers: of every picture.
        files: where each is, for the message.
        size: to resize to, if they are to be resized.

    Raises:
        DataError: different sizes.
    """
    grey = all(mode in _GREY for mode, _ in headers)
    if size is not None:
        return PictureKind(grey, _checked_size(size), resize=True)
    first = headers[0][1]
    for path, (_, found) in zip(files, headers, strict=True):
        if found != first:
            raise DataError(
                expected=f"pictures of one size, {first[1]}x{first[0]} like {files[0]}",
                got=f"{found[1]}x{found[0]} in {path}",
                remedy="Resize them all: --size 32 (size=32 in Python).",
            )
    return PictureKind(grey, first, resize=False)


def header(source: Path | IO[bytes], path: Path) -> tuple[str, Size]:
    """Mode and ``(height, width)`` of a picture in a file, without decoding it."""
    with reading(path, "a picture"), Image.open(source, formats=FORMATS) as image:
        width, height = image.size
        if image.mode not in _GREY + _COLOUR or width * height > MAX_PIXELS:
            raise DataError(
                expected=f"an 8-bit grey or colour picture of at most {MAX_PIXELS:,} pixels",
                got=f"{width}x{height}, mode {image.mode}, in {path}",
                remedy="Convert it to 8-bit PNG of a sensible size.",
            )
        return image.mode, (height, width)


def _checked_size(size: int | Size) -> Size:
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise ArgumentError(
            expected="size as a positive number of pixels, or (height, width)",
            got=f"size={size!r}",
            remedy="For example size=32.",
        )
    return height, width


def part_of(files: dict[str, list[Path]], names: tuple[str, ...], kind: PictureKind) -> Part:
    """The pictures of each class as a part; ``names`` are the classes in order."""
    labels = [names.index(name) for name, found in files.items() for _ in found]
    store = FolderImages([path for found in files.values() for path in found], kind)
    return Part(store, torch.tensor(labels, dtype=torch.int64))
