"""A name or a path becomes a data set."""

from __future__ import annotations

import os
from pathlib import Path

from suture.data.arrow import is_arrow, read_arrow
from suture.data.dataset import Dataset
from suture.data.given import Data, content_of, is_given
from suture.data.idx import is_idx_folder, read_idx_folder
from suture.data.image_folder import read_image_folder
from suture.data.named import KNOWN, find
from suture.data.npz import read_npz
from suture.data.parts import SourceContent, assemble
from suture.data.shards import is_shards, read_shards
from suture.data.tiny_imagenet import is_tiny_imagenet, read_tiny_imagenet
from suture.errors import ArgumentError, DataError, unknown_name


def load(
    name_or_path: str | os.PathLike[str] | Data,
    *,
    seed: int = 0,
    validation: int | float | None = None,
    test_share: float = 0.2,
    size: int | tuple[int, int] | None = None,
    download: bool = True,
) -> Dataset:
    """The data set of that name, or in that file or folder, or of another library's kind.

    Args:
        name_or_path: a name out of ``catalogue()``; or an ``.npz`` file, a ``.tar`` file or a
            folder of them (WebDataset), a ``.parquet`` file, a folder of them, or what
            ``save_to_disk`` of a Hugging Face data set wrote, a folder of IDX files,
            ``tiny-imagenet-200``, or another folder of pictures. A name wins over a path; write
            ``./mnist`` for a folder ``mnist``.
            Or ``(images, labels)``, a data loader, a torch or Hugging Face data set (or a mapping
            of these: train, validation, test).
        seed: chooses the validation images; the test images never depend on it.
        validation: a share in [0, 1) or a number of the training images; ``None`` for 10 %, at
            most 5 000. Ignored where the data has a validation set of its own.
        test_share: share of a set without official test images that becomes the test split; 1 to
            only evaluate on it.
        size: ``(height, width)``, or one number, to resize pictures in a folder to.
        download: let torchvision fetch a known set that is nowhere on this machine.

    Raises:
        DataError: for an unknown name, a missing path, or malformed data.
        ArgumentError: for a senseless ``validation``, ``test_share`` or ``size``.

    >>> load("digits").in_shape
    (1, 8, 8)
    """
    if isinstance(name_or_path, Dataset):
        return name_or_path
    found = _find(name_or_path, size, download)
    return assemble(found, seed=seed, validation=validation, test_share=test_share)


def _find(
    name_or_path: str | os.PathLike[str] | Data,
    size: int | tuple[int, int] | None,
    download: bool,
) -> SourceContent:
    if is_given(name_or_path):
        if size is not None:
            raise _no_size(size, type(name_or_path).__name__)
        return content_of(name_or_path)
    path = Path(name_or_path).expanduser()
    named = isinstance(name_or_path, str) and name_or_path in KNOWN
    if size is not None and (
        named or not (is_shards(path) or is_arrow(path) or _is_pictures(path))
    ):
        raise _no_size(size, str(name_or_path))
    return find(str(name_or_path), download=download) if named else _from_path(path, size)


def _is_pictures(path: Path) -> bool:
    return path.is_dir() and not is_idx_folder(path)


def _no_size(size: object, where: str) -> ArgumentError:
    return ArgumentError(
        expected="size only for pictures: a folder of them, shards, or Parquet and Arrow files",
        got=f"size={size!r} for {where}",
        remedy="Leave it out.",
    )


def _from_path(path: Path, size: int | tuple[int, int] | None) -> SourceContent:
    if path.exists() and is_shards(path):
        return read_shards(path, size)
    if path.exists() and is_arrow(path):
        return read_arrow(path, size)
    if path.is_dir():
        if is_idx_folder(path):
            return read_idx_folder(path)
        tiny = is_tiny_imagenet(path)
        return read_tiny_imagenet(path, size) if tiny else read_image_folder(path, size)
    if path.is_file():
        if path.suffix == ".npz":
            return read_npz(path)
        raise DataError(
            expected="an .npz, .tar or .parquet file, a folder of IDX files or of pictures",
            got=f"the file {path}",
            remedy="Give the folder that holds it, or save the arrays with numpy.savez.",
        )
    raise _missing(path)


def _missing(path: Path) -> DataError:
    if path.suffix or len(path.parts) > 1:
        return DataError(
            expected=f"a file or folder at {path}",
            got="nothing there",
            remedy="Check the path; it is relative to the current directory.",
        )
    return DataError(
        expected=f"a data set: {', '.join(KNOWN)}; or a path",
        got=unknown_name("data set", str(path), list(KNOWN)),
        remedy="See `suture data list`.",
    )
