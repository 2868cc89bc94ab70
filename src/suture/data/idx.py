"""IDX files, MNIST's own format: two images files and two label files in a folder.

Format: two zero bytes, a type code, the number of axes, then each axis as a big-endian uint32, then
the values in C order, big-endian (LeCun, Cortes & Burges, "The MNIST database").
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path
from typing import IO, cast

import numpy as np

from suture.data.checks import to_labels, to_stored
from suture.data.parts import Part, SourceContent
from suture.data.reading import check_size, reading
from suture.data.stores import Memory
from suture.errors import DataError

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PATTERNS = (
    ("train", "*train*images*idx*", "*train*labels*idx*"),
    ("test", "*t10k*images*idx*", "*t10k*labels*idx*"),
    ("test", "*test*images*idx*", "*test*labels*idx*"),
)
_PIECE = 1 << 24


def read_idx_array(path: Path) -> np.ndarray:
    """One IDX file, gzipped or not, as an array.

    Raises:
        DataError: for another format, a length that does not fit the header, or a damaged file.
    """
    with reading(path, "an IDX file"), _opened(path) as file:
        dtype, shape = _header(file, path)
        size = math.prod(shape) * dtype.itemsize
        check_size(size, path, "an array")
        content = _read(file, size + 1)  # one byte more shows a file that is too long
        if len(content) != size:
            raise _wrong_length(path, size, content)
        return np.frombuffer(content, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _header(file: IO[bytes], path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    zero, code, axes = struct.unpack(">HBB", file.read(4))
    if zero != 0 or code not in TYPES or not 1 <= axes <= 4:
        raise DataError(
            expected=f"an IDX file at {path} (two zero bytes, type, 1 to 4 axes)",
            got=f"a file that begins with {zero:04x} {code:02x} {axes:02x}",
            remedy="Give the folder with the four files as MNIST publishes them.",
        )
    shape = struct.unpack(f">{axes}I", file.read(4 * axes))
    return np.dtype(TYPES[code]), shape


def _read(file: IO[bytes], most: int) -> bytes:
    """At most that many bytes, in pieces: a header that lies must not make us allocate."""
    pieces: list[bytes] = []
    while most > 0 and (piece := file.read(min(most, _PIECE))):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


def _wrong_length(path: Path, size: int, content: bytes) -> DataError:
    got = "more" if len(content) > size else f"{len(content):,}"
    return DataError(
        expected=f"{size:,} bytes of values in {path}, as its header announces",
        got=f"{got} bytes",
        remedy="The file is truncated or mixed up: fetch it again.",
    )


def is_idx_folder(folder: Path) -> bool:
    """Whether the folder holds MNIST-like training or test images."""
    return any(_one(folder, images) is not None for _, images, _ in _PATTERNS)


def read_idx_folder(folder: Path) -> SourceContent:
    """The data set in a folder with ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, and
    the same with ``t10k``; each may end in ``.gz``.

    Raises:
        DataError: for a missing partner, a damaged file, or counts that disagree.
    """
    parts = {
        name: part
        for name, *patterns in _PATTERNS
        if (part := _part(folder, *patterns)) is not None
    }
    classes = 1 + max(int(part.labels.max()) for part in parts.values())
    names = tuple(str(c) for c in range(classes))
    return SourceContent.of(str(folder), f"{folder} (IDX files)", names, parts)


def _part(folder: Path, images: str, labels: str) -> Part | None:
    image_file, label_file = _one(folder, images), _one(folder, labels)
    if image_file is None:
        return None
    if label_file is None:
        raise DataError(
            expected=f"a label file beside {image_file}",
            got=f"no file like {labels}",
            remedy="Put the images' label file into the same folder.",
        )
    store = Memory(to_stored(read_idx_array(image_file), str(image_file)))
    return Part(store, to_labels(read_idx_array(label_file), store.shape[0], str(label_file)))


def _one(folder: Path, pattern: str) -> Path | None:
    """The file like that, the plain one where a gzipped twin lies beside it."""
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    return files[0] if files else None
