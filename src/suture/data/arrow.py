"""Hugging Face data sets on disk: Parquet files, and folders that ``save_to_disk`` wrote.

The library ``datasets`` maps Arrow files into memory (of Parquet it keeps an Arrow copy in its
cache); nothing is downloaded, and no code that comes with a data set is run. Pictures are taken as
bytes and decoded as those of a folder are, when they are asked for.
"""

from __future__ import annotations

import hashlib
import importlib
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from suture.data.checks import to_labels
from suture.data.given import IMAGE_NAMES, LABEL_NAMES, PART_NAMES
from suture.data.image_folder import PARTS, PictureKind, Size, common_kind, header, pixels_of
from suture.data.parts import Part, SourceContent
from suture.data.reading import reading
from suture.data.stores import Decoded
from suture.errors import DataError, DependencyError

_SAVED = ("dataset_dict.json", "dataset_info.json")
_AT_ONCE = 256


class ArrowImages(Decoded):
    """Pictures in a column of encoded bytes, decoded one by one."""

    def __init__(self, column: Any, name: str, path: Path, kind: PictureKind) -> None:
        super().__init__((len(column), 1 if kind.grey else 3, *kind.size))
        self._column, self._name, self._path, self._kind = column, name, path, kind

    def known(self, rows: Tensor) -> str:
        """SHA-256 of the pictures' bytes, and of how they are decoded."""
        found = hashlib.sha256(repr((self._kind, *self._shape[1:], len(rows))).encode())
        for row in rows.tolist():
            found.update(hashlib.sha256(self._content(row)).digest())
        return f"files {found.hexdigest()}"

    def _content(self, row: int) -> bytes:
        with reading(self._path, "a picture in an Arrow file"):
            return content_of_cell(self._column[row][self._name], row, self._path)

    def _decode(self, row: int) -> np.ndarray:
        with reading(self._path, f"a picture at position {row}"):
            return pixels_of(io.BytesIO(self._content(row)), self._kind)


def is_arrow(path: Path) -> bool:
    """Whether it is a Parquet file, a folder of them, or a folder that ``save_to_disk`` wrote."""
    if not path.is_dir():
        return path.suffix == ".parquet"
    return any((path / name).is_file() for name in _SAVED) or bool(_parquet_files(path))


def read_arrow(path: Path, size: int | Size | None = None) -> SourceContent:
    """The data set at that path.

    Args:
        path: a ``.parquet`` file, a folder of them (or with them in ``data``) named after their
            parts, ``train-00000.parquet``; or what ``save_to_disk`` of a data set, or of a
            dictionary of data sets, wrote.
        size: ``(height, width)`` to resize every picture to, as for a folder of pictures.

    Raises:
        DependencyError: the library ``datasets`` is not installed.
        DataError: no column of images, no column of labels, or several that could be meant; a
            damaged file; pictures of different sizes.
    """
    library = _library()
    with reading(path, "a Hugging Face data set"), _quiet(library):
        found = _opened(library, path)
    first = found.get("train", next(iter(found.values())))
    image, label = _image_column(first.features, path), _label_column(first.features, path)
    for part in found.values():
        _check_columns(part, (image, label), path)
    columns = {name: _encoded(library, part, image) for name, part in found.items()}
    kind = _kind(columns, image, path, size)
    parts = {
        name: Part(ArrowImages(columns[name], image, path, kind), _labels(part, label, path))
        for name, part in found.items()
    }
    count = 1 + max(int(part.labels.max()) for part in parts.values())
    told = getattr(first.features[label], "names", None) or map(str, range(count))
    return SourceContent.of(str(path), f"{path} (Hugging Face)", tuple(told), parts)


def content_of_cell(cell: Any, row: int, path: Path) -> bytes:
    """The encoded picture in a cell ``{"bytes": …, "path": …}``.

    Raises:
        DataError: it holds no bytes; files that it may name elsewhere are not opened.
    """
    content = cell.get("bytes") if isinstance(cell, dict) else None
    if not isinstance(content, bytes) or not content:
        raise DataError(
            expected=f"pictures within the files at {path}",
            got=f"no bytes at position {row}",
            remedy="Write the data set with its pictures in it: save_to_disk, or to_parquet after "
            "they were read.",
        )
    return content


def _library() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError:
        raise DependencyError(
            expected="the package datasets, to read Parquet and Arrow files",
            got="an environment without it",
            remedy="pip install 'suture[datasets]'",
        ) from None


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Without bars of its own."""
    shown = library.is_progress_bar_enabled()
    library.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            library.enable_progress_bars()


def _parquet_files(path: Path) -> list[Path]:
    return sorted([*path.glob("*.parquet"), *path.glob("data/*.parquet")])


def _opened(library: Any, path: Path) -> dict[str, Any]:
    """Data sets by part: train, validation, test, or whole."""
    if path.is_dir() and any((path / name).is_file() for name in _SAVED):
        saved = library.load_from_disk(str(path))
        held = saved if isinstance(saved, dict) else {"whole": saved}
    else:
        files: dict[str, list[str]] = {}
        for file in _parquet_files(path) if path.is_dir() else [path]:
            files.setdefault(_part_of(file), []).append(str(file))
        held = {part: library.Dataset.from_parquet(names) for part, names in files.items()}
    named = {PART_NAMES.get(name, name): part for name, part in held.items()}
    found = {name: named[name] for name in ("train", "validation", "test") if name in named}
    if not {"train", "test"} & set(found):
        found = {"whole": next(iter(named.values()))} if len(named) == 1 else {}
    found = {name: part.with_format(None) for name, part in found.items() if len(part)}
    if not found:
        raise DataError(
            expected=f"rows under the names train, validation or test in {path}",
            got=", ".join(f"{name} ({len(part)} rows)" for name, part in held.items()),
            remedy="Name the parts so, or keep a single one.",
        )
    return found


def _part_of(file: Path) -> str:
    known = (part for part, names in PARTS.items() if file.name.lower().startswith(names))
    return next(known, "whole")


def _image_column(features: dict[str, Any], path: Path) -> str:
    return _chosen([n for n, f in features.items() if _holds_images(f)], IMAGE_NAMES, "image", path)


def _holds_images(feature: Any) -> bool:
    """An ``Image``, or a struct with ``bytes``, which is how an ``Image`` is stored."""
    if type(feature).__name__ == "Image":
        return True
    return isinstance(feature, dict) and getattr(feature.get("bytes"), "dtype", "") == "binary"


def _label_column(features: dict[str, Any], path: Path) -> str:
    named = [name for name, f in features.items() if type(f).__name__ == "ClassLabel"]
    whole = [n for n, f in features.items() if str(getattr(f, "dtype", "")).startswith("int")]
    return _chosen(named or whole, LABEL_NAMES, "label", path, tuple(features))


def _chosen(
    found: list[str], usual: Iterable[str], what: str, path: Path, columns: tuple[str, ...] = ()
) -> str:
    """The only one, or that of a usual name."""
    if len(found) == 1:
        return found[0]
    known = [name for name in usual if name in found]
    if known:
        return known[0]
    of = {"image": "encoded pictures", "label": "classes (ClassLabel, or int)"}[what]
    got = f"several: {', '.join(found)}" if found else f"none among {', '.join(columns) or 'all'}"
    raise DataError(
        expected=f"one column of {of} in {path}, or one called {what!r} among several",
        got=got,
        remedy=f'Rename it and save again: dataset.rename_column("…", "{what}").'
        + (" Texts become classes by class_encode_column." if what == "label" else ""),
    )


def _check_columns(part: Any, columns: tuple[str, str], path: Path) -> None:
    for name in columns:
        if name not in part.features:
            raise DataError(
                expected=f"the column {name!r} in every part of {path}",
                got=f"one with {', '.join(part.features)}",
                remedy="Give all parts the same columns.",
            )


def _encoded(library: Any, part: Any, image: str) -> Any:
    """The column of images alone, as bytes."""
    alone = part.select_columns([image])
    if type(alone.features[image]).__name__ == "Image":
        alone = alone.cast_column(image, library.Image(decode=False))
    return alone


def _kind(columns: dict[str, Any], image: str, path: Path, size: int | Size | None) -> PictureKind:
    headers, places = [], []
    for name, column in columns.items():
        for start in range(0, len(column), _AT_ONCE):
            for row, cell in enumerate(column[start : start + _AT_ONCE][image], start):
                headers.append(header(io.BytesIO(content_of_cell(cell, row, path)), path))
                places.append(f"{name} {row}")
    return common_kind(headers, places, size)


def _labels(part: Any, label: str, path: Path) -> Tensor:
    values = np.asarray(part.select_columns([label])[:][label])
    return to_labels(values, len(part), f"the column {label!r} of {path}")
