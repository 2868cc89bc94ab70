"""Any ``.npz`` file with images and labels."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from suture.data.arrays import Archive
from suture.data.checks import (
    channels_first,
    check_dtype,
    check_range,
    to_labels,
    to_stored,
)
from suture.data.parts import Part, SourceContent
from suture.data.stores import CACHE_BYTES, Deferred, Images, InFile, Memory
from suture.errors import DataError
from suture.storage import atomic_file

_PIECE = 2**24
KEYS: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels")),
    "validation": (("x_val", "y_val"), ("val_images", "val_labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
    "whole": (("images", "labels"), ("x", "y")),
}
"""For each part, the pairs of array names that are looked for, in this order."""


class NpzImages(Deferred):
    """The images of one array, read at the first question.

    Args:
        archive: the file.
        key: the array's name; type and shape are checked at once from its header.
    """

    def __init__(self, archive: Archive, key: str) -> None:
        shape, dtype = archive.header(key)
        check_dtype(dtype, f"{key} in {archive.path}")
        super().__init__(channels_first(shape, f"{key} in {archive.path}"))
        self._archive, self._key = archive, key

    def _read(self) -> Tensor:
        return to_stored(self._archive.array(self._key), f"{self._key} in {self._archive.path}")


def npz_part(archive: Archive, images: str, labels: str) -> Part:
    """One part out of two arrays of an archive; bytes are read later, floats checked at once."""
    if (store := in_place(archive, images)) is not None:
        read = archive.array(labels)
        return Part(store, to_labels(read, store.shape[0], f"{labels} in {archive.path}"))
    store = NpzImages(archive, images)
    if archive.header(images)[1] != np.uint8:
        store = Memory(to_stored(archive.array(images), f"{images} in {archive.path}"))
    read = archive.array(labels)
    return Part(store, to_labels(read, store.shape[0], f"{labels} in {archive.path}"))


def in_place(archive: Archive, key: str) -> Images | None:
    """A large array that lies uncompressed in the file, to be read image by image.

    Floating-point images are looked through once, a piece at a time.

    Raises:
        DataError: values out of range.
    """
    shape, dtype = archive.header(key)
    if math.prod(shape) * dtype.itemsize <= CACHE_BYTES or (start := archive.place(key)) is None:
        return None
    where = f"{key} in {archive.path}"
    check_dtype(dtype, where)
    store = InFile(archive.path, start, dtype, shape, channels_first(shape, where))
    if dtype != np.uint8:
        for rows in torch.arange(shape[0]).split(max(1, _PIECE * shape[0] // math.prod(shape))):
            check_range(store.take(rows).numpy(), where)
    return store


def _held(archive: Archive, parts: Mapping[str, Part]) -> tuple[str, ...]:
    """Says of which large parts all images are read into memory, and how that is avoided."""
    held = [
        name
        for name, part in parts.items()
        if isinstance(part.images, NpzImages | Memory)
        and math.prod(part.images.shape) > CACHE_BYTES
    ]
    if not held:
        return ()
    return (
        f"{archive.path.name} is compressed: all {' and '.join(held)} images are read into memory "
        "at once; saved with numpy.savez they are read one by one.",
    )


def read_npz(path: Path) -> SourceContent:
    """The data set in an ``.npz`` file.

    Arrays: ``x_train``/``y_train`` and ``x_test``/``y_test`` (``x_val``/``y_val`` too), or
    ``images``/``labels``, or ``x``/``y``; ``class_names`` if there. Images uint8 or floating point
    in [0, 1]; ``(n, h, w)``, ``(n, h, w, c)`` or ``(n, c, h, w)``.

    Raises:
        DataError: for missing arrays, wrong shapes, types or values, a damaged file.
    """
    archive = Archive(path)
    parts = {
        name: npz_part(archive, *pair)
        for name, pairs in KEYS.items()
        if (pair := next((p for p in pairs if set(p) <= set(archive.keys)), None)) is not None
    }
    if {"train", "test"} & set(parts):
        parts.pop("whole", None)
    if not set(parts) - {"validation"}:
        raise _no_arrays(archive)
    found = SourceContent.of(str(path), str(path), _class_names(archive, parts), parts)
    return replace(found, notes=_held(archive, parts))


def write_npz(
    path: Path, shape: tuple[int, ...], pieces: Iterable[Tensor], labels: np.ndarray
) -> None:
    """Test images as a data set that ``read_npz`` opens, written piece by piece.

    Args:
        shape: ``(n, c, h, w)`` of all of them.
        pieces: float32 in [0, 1], n images in all.
    """
    kind = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
    with (
        atomic_file(path) as draft,
        zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        with archive.open("x_test.npy", "w", force_zip64=True) as member:
            npy.write_array_header_2_0(member, kind)
            for piece in pieces:
                member.write(np.ascontiguousarray(piece.cpu().numpy(), dtype="<f4").data)
        with archive.open("y_test.npy", "w") as member:
            npy.write_array(member, labels, allow_pickle=False)


def _no_arrays(archive: Archive) -> DataError:
    return DataError(
        expected=f"arrays named images and labels, or x_train, y_train, … in {archive.path}",
        got=", ".join(archive.keys) or "an empty archive",
        remedy="Save with numpy.savez(path, images=images, labels=labels).",
    )


def _class_names(archive: Archive, parts: dict[str, Part]) -> tuple[str, ...]:
    if "class_names" in archive.keys:
        try:
            return tuple(str(name) for name in archive.array("class_names").ravel())
        except (SystemError, ValueError) as error:  # numpy's, for code points that do not exist
            raise DataError(
                expected=f"class_names as texts in {archive.path}",
                got=str(error),
                remedy="Save the names again with numpy.savez.",
            ) from error
    return tuple(str(c) for c in range(1 + max(int(p.labels.max()) for p in parts.values())))
