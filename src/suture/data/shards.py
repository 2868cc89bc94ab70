"""WebDataset shards: tar files with an image and a ``.cls`` file, the class's number, per example.

Only these two are read, images as pictures and classes as text; nothing else in a shard is opened.
Examples are indexed once by their places in the files, and decoded when they are asked for.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from torch import Tensor

from suture.data.checks import to_labels
from suture.data.image_folder import (
    PARTS,
    SUFFIXES,
    PictureKind,
    Size,
    common_kind,
    header,
    pixels_of,
)
from suture.data.parts import Part, SourceContent
from suture.data.reading import reading
from suture.data.stores import Decoded
from suture.errors import DataError

_LONGEST = 32
"""Characters of a class's number."""


@dataclass(frozen=True)
class _Place:
    """Where an example's image lies: file, first byte, bytes."""

    path: Path
    start: int
    size: int

    def content(self) -> bytes:
        """The picture as it was written."""
        with reading(self.path, "a picture in a shard"), self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


class ShardImages(Decoded):
    """Pictures in tar files, decoded one by one."""

    portable = True

    def __init__(self, places: list[_Place], kind: PictureKind) -> None:
        super().__init__((len(places), 1 if kind.grey else 3, *kind.size))
        self._places, self._kind = places, kind

    def known(self, rows: Tensor) -> str:
        """SHA-256 of the pictures' bytes, and of how they are decoded."""
        found = hashlib.sha256(repr((self._kind, *self._shape[1:], len(rows))).encode())
        for row in rows.tolist():
            found.update(hashlib.sha256(self._places[row].content()).digest())
        return f"files {found.hexdigest()}"

    def _decode(self, row: int) -> np.ndarray:
        place = self._places[row]
        with reading(place.path, "a picture in a shard"):
            return pixels_of(io.BytesIO(place.content()), self._kind)


def is_shards(path: Path) -> bool:
    """Whether it is a tar file, or a folder that holds some."""
    return path.suffix == ".tar" or (path.is_dir() and any(path.glob("*.tar")))


def read_shards(path: Path, size: int | Size | None = None) -> SourceContent:
    """The data set in tar files.

    Args:
        path: a file, or a folder whose files are named after their parts: ``train-000.tar``,
            ``val-000.tar``, ``test-000.tar``; files with other names are a whole without parts.
        size: ``(height, width)`` to resize every picture to, as for a folder of pictures.

    Raises:
        DataError: a damaged file, no example, a picture without a class, different sizes.
    """
    files = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    examples: dict[str, list[tuple[_Place, int]]] = {}
    for file in files:
        examples.setdefault(_part_of(file), []).extend(_examples(file))
    if {"train", "test"} & set(examples):
        examples.pop("whole", None)
    places = [place for found in examples.values() for place, _ in found]
    headers = [header(io.BytesIO(place.content()), place.path) for place in places]
    kind = common_kind(headers, [str(place.path) for place in places], size)
    parts = {name: _part(found, kind, path) for name, found in examples.items()}
    count = 1 + max(int(part.labels.max()) for part in parts.values())
    names = tuple(str(c) for c in range(count))
    return SourceContent.of(str(path), f"{path} (WebDataset)", names, parts)


def _part_of(file: Path) -> str:
    name = file.name.lower()
    known = (part for part, names in PARTS.items() if name.startswith(names))
    return next(known, "whole")


def _part(found: list[tuple[_Place, int]], kind: PictureKind, path: Path) -> Part:
    labels = to_labels(np.array([label for _, label in found]), len(found), f"classes in {path}")
    return Part(ShardImages([place for place, _ in found], kind), labels)


def _examples(path: Path) -> Iterator[tuple[_Place, int]]:
    """Each example's picture and class, in the order of the pictures."""
    images, classes = dict[str, _Place](), dict[str, int]()
    with reading(path, "a tar file"), tarfile.open(path, "r:") as shard:
        for member in shard:
            if not member.isreg():
                continue
            key, _, kind = PurePosixPath(member.name).name.partition(".")
            key = str(PurePosixPath(member.name).parent / key)
            if f".{kind.lower()}" in SUFFIXES:
                images[key] = _Place(path, member.offset_data, member.size)
            elif kind == "cls" and member.size <= _LONGEST:
                content = shard.extractfile(member)
                assert content is not None, "a regular file has content"
                classes[key] = int(content.read())
    missing = [key for key in images if key not in classes]
    if not images or missing:
        raise DataError(
            expected=f"pictures with a class each (KEY.jpg and KEY.cls) in {path}",
            got=f"no class for {missing[0]!r}" if missing else "no picture",
            remedy="Write the class's number as text beside each picture.",
        )
    for key, place in images.items():
        yield place, classes[key]
