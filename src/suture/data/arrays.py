"""``.npz`` archives without trust: no pickle, and no allocation before the header was checked."""

from __future__ import annotations

import math
import struct
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from suture.data.reading import check_size, reading
from suture.errors import DataError

_NAME_LENGTHS = 26
"""Where a zip member's own header tells the lengths of its name and its extra field."""
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True)
class Archive:
    """The arrays of an ``.npz`` file, each read when asked for.

    Args:
        path: the file.

    Raises:
        DataError: from every method, for a damaged file, an array of Python objects, a header that
            does not fit the bytes behind it, or an absurd size.
    """

    path: Path

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The names of the arrays."""
        with reading(self.path, "an .npz archive"), zipfile.ZipFile(self.path) as archive:
            names = archive.namelist()
        return tuple(name.removesuffix(".npy") for name in names if name.endswith(".npy"))

    def header(self, key: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and type of an array, without reading it."""
        with (
            reading(self.path, f"the array {key!r} of an .npz archive"),
            zipfile.ZipFile(self.path) as archive,
            archive.open(f"{key}.npy") as file,
        ):
            return self._checked_header(file, key, archive.getinfo(f"{key}.npy").file_size)

    def array(self, key: str) -> np.ndarray:
        """The whole array; the archive's checksum is verified on the way."""
        shape, dtype = self.header(key)
        check_size(math.prod(shape) * dtype.itemsize, self.path, f"an array {key!r}")
        with (
            reading(self.path, f"the array {key!r} of an .npz archive"),
            zipfile.ZipFile(self.path) as archive,
            archive.open(f"{key}.npy") as file,
        ):
            return npy.read_array(file, allow_pickle=False)

    def place(self, key: str) -> int | None:
        """Where in the file the array's bytes lie as they are, in C order; ``None`` if nowhere.

        Whoever reads them there does without the archive's checksum.
        """
        with reading(self.path, f"the array {key!r} of an .npz archive"):
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{key}.npy") as file:
                about = archive.getinfo(f"{key}.npy")
                version = npy.read_magic(file)
                _, fortran, _ = _HEADERS[version](file)
                skipped = file.tell()
            if about.compress_type != zipfile.ZIP_STORED or fortran:
                return None
            with self.path.open("rb") as whole:  # names may differ in length from the directory's
                whole.seek(about.header_offset + _NAME_LENGTHS)
                name, extra = struct.unpack("<HH", whole.read(4))
        return about.header_offset + _NAME_LENGTHS + 4 + int(name) + int(extra) + skipped

    def _checked_header(
        self, file: IO[bytes], key: str, size: int
    ) -> tuple[tuple[int, ...], np.dtype]:
        version = npy.read_magic(file)
        if version not in _HEADERS:
            raise self._refuse(key, f"version {version} of the .npy format")
        shape, _, dtype = _HEADERS[version](file)
        if dtype.hasobject:
            raise self._refuse(key, "an array of Python objects")
        announced = math.prod(shape) * dtype.itemsize
        if announced > size:  # else what it announces is there, on disk
            check_size(announced, self.path, f"an array {key!r}")
        if announced != size - file.tell():
            raise self._refuse(key, f"a header of {announced:,} bytes, {size - file.tell():,} left")
        return shape, dtype

    def _refuse(self, key: str, got: str) -> DataError:
        return DataError(
            expected=f"a plain numeric array {key!r} in {self.path}",
            got=got,
            remedy="Save numeric arrays with numpy.savez or numpy.savez_compressed.",
        )
