"""Data as other libraries hold it: arrays, data loaders, torch and Hugging Face data sets.

Nothing of theirs is imported: what has the right methods is understood.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from suture.data.checks import to_labels, to_stored
from suture.data.dataset import Dataset, Split, to_float
from suture.data.parts import Part, SourceContent
from suture.data.stores import Decoded, Memory
from suture.errors import DataError
from suture.types import Batch, LabelledImages

Data = Any
"""``(images, labels)``, a data loader, a torch or Hugging Face data set, a mapping of these, a
``Batch``, a ``Dataset``, or the name or path of one."""

IMAGE_NAMES = ("image", "img", "images", "pixel_values", "x")
LABEL_NAMES = ("label", "labels", "fine_label", "target", "y")
PART_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "test": "test"}
_FORMS = "images with labels: (images, labels), a data loader, a torch or Hugging Face data set"


def is_given(data: object) -> bool:
    """Whether this is data of another library's kind, and not a name or a path."""
    return not isinstance(data, str | os.PathLike)


def content_of(data: Data) -> SourceContent:
    """Its parts, ready for ``assemble``.

    Raises:
        DataError: what is no such thing, or images and labels that are malformed.
    """
    name = type(data).__name__
    parted = _parted(data) if isinstance(data, Mapping) else {"whole": data}
    parts = {part: part_of(held) for part, held in parted.items()}
    names = next((found for held in parted.values() if (found := _class_names(held))), ())
    count = 1 + max(int(part.labels.max()) for part in parts.values())
    return SourceContent.of(
        name, f"given as {name}", names or tuple(str(c) for c in range(count)), parts
    )


def images_of(data: Data, *, split: str = "test") -> LabelledImages:
    """The same as ``batch_of``, decoded later where it would take more than a gigabyte."""
    if isinstance(data, Batch):
        return data
    if isinstance(data, Dataset):
        data = data.splits[split]
    if isinstance(data, Split):
        return data.resident(data.device)
    if isinstance(data, Mapping) and split in data:
        data = data[split]
    part = part_of(data)
    return part.split(split, torch.ones(len(part.labels), dtype=torch.bool)).resident()


def batch_of(data: Data, *, split: str = "test") -> Batch:
    """All its images with their labels.

    Args:
        data: a batch is itself; of a data set the split of that name is taken.
        split: "train" or "test".

    Raises:
        DataError: what is no such thing, or images and labels that are malformed.
        ArgumentError: a split of more than four gigabytes.
    """
    if isinstance(data, Batch):
        return data
    if isinstance(data, Dataset):
        data = data.splits[split]
    if isinstance(data, Split):
        return Batch(data.images, data.labels.to(data.device))
    if isinstance(data, Mapping) and split in data:
        data = data[split]
    part = part_of(data)
    return Batch(to_float(part.images.take(torch.arange(len(part.labels)))), part.labels)


def _parted(data: Mapping[str, Any]) -> dict[str, Any]:
    found = {PART_NAMES[name]: held for name, held in data.items() if name in PART_NAMES}
    if found:
        return found
    keys = _keys(data)
    if keys is None:
        raise _unusable(f"a mapping with {', '.join(map(str, list(data)[:8]))}")
    return {"whole": (data[keys[0]], data[keys[1]])}


def part_of(data: Data) -> Part:
    """Images and labels of one part."""
    if isinstance(data, Mapping):
        return part_of(_parted(data)["whole"])
    if isinstance(data, tuple | list) and len(data) == 2 and all(map(_is_array, data)):
        return _arrays(*data)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return _items(data)
    if isinstance(data, Iterable):
        return _loaded(data)
    raise _unusable(type(data).__name__)


def _is_array(value: object) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and isinstance(value[0], int | float | list | tuple | np.number)
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _arrays(images: Any, labels: Any) -> Part:
    stored = to_stored(_numpy(images), "images")
    return Part(Memory(stored), to_labels(_numpy(labels), len(stored), "labels"))


def _numpy(values: Any) -> np.ndarray:
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    return np.asarray(values)


def _loaded(loader: Iterable[Any]) -> Part:
    """All batches of a loader, one after another."""
    images, labels = [], []
    for batch in loader:
        one, two = _pair(batch)
        images.append(_numpy(one))
        labels.append(np.atleast_1d(_numpy(two)))
    if not images:
        raise _unusable("a loader without batches")
    try:
        return _arrays(np.concatenate(images), np.concatenate(labels))
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise _unusable(f"batches of different shapes ({error})") from error


def _pair(item: Any) -> tuple[Any, Any]:
    if isinstance(item, Mapping) and (keys := _keys(item)) is not None:
        return item[keys[0]], item[keys[1]]
    if isinstance(item, Sequence) and len(item) == 2 and not isinstance(item, str):
        return item[0], item[1]
    told = f"a mapping with {', '.join(map(str, item))}" if isinstance(item, Mapping) else ""
    raise _unusable(f"an item that is {told or type(item).__name__}")


def _keys(item: Mapping[str, Any]) -> tuple[str, str] | None:
    found = [next((n for n in names if n in item), None) for names in (IMAGE_NAMES, LABEL_NAMES)]
    return None if None in found else (found[0], found[1])  # type: ignore[return-value]


class ItemPictures(Decoded):
    """Pictures that another library's data set decodes one by one."""

    def __init__(self, items: Any, first: Image.Image) -> None:
        self._grey = first.mode in ("L", "1")
        super().__init__((len(items), 1 if self._grey else 3, first.height, first.width))
        self._items = items

    def _decode(self, row: int) -> np.ndarray:
        picture = _pair(self._items[row])[0].convert("L" if self._grey else "RGB")
        if (picture.height, picture.width) != tuple(self._shape[2:]):
            raise DataError(
                expected=f"pictures of one size, {self._shape[3]}x{self._shape[2]}",
                got=f"{picture.width}x{picture.height} at position {row}",
                remedy="Give the data set a transform that resizes (torchvision's Resize).",
            )
        pixels = np.asarray(picture, dtype=np.uint8)
        return pixels[..., None] if self._grey else pixels


def _items(items: Any) -> Part:
    """A data set that gives one image with its label at a time."""
    if len(items) == 0:
        raise _unusable("a data set without images")
    first = _pair(items[0])[0]
    if isinstance(first, Image.Image):
        known = _known_labels(items)
        labels = known if known is not None else np.array([_pair(i)[1] for i in _each(items)])
        return Part(ItemPictures(items, first), to_labels(labels, len(items), "labels"))
    pairs = [_pair(item) for item in _each(items)]
    try:
        images = np.stack([_numpy(image) for image, _ in pairs])
    except ValueError as error:
        raise _unusable("images of different shapes") from error
    return _arrays(images, np.array([int(label) for _, label in pairs]))


def _each(items: Any) -> Iterator[Any]:
    return (items[index] for index in range(len(items)))


def _known_labels(items: Any) -> np.ndarray | None:
    """Labels that can be had without decoding the images."""
    columns = getattr(items, "column_names", None)
    if columns is not None and (keys := _keys(dict.fromkeys(columns))) is not None:
        return np.asarray(items[keys[1]])
    targets = getattr(items, "targets", None)
    if targets is None or getattr(items, "target_transform", None) is not None:
        return None
    return _numpy(targets) if len(targets) == len(items) else None


def _class_names(data: Any) -> tuple[str, ...]:
    """As torchvision (``classes``) or Hugging Face (``features``) tell them."""
    features = getattr(data, "features", None)
    if isinstance(features, Mapping) and (keys := _keys(features)) is not None:
        return tuple(map(str, getattr(features[keys[1]], "names", None) or ()))
    told = getattr(getattr(data, "dataset", data), "classes", None)
    return tuple(map(str, told)) if isinstance(told, list | tuple) else ()


def _unusable(got: str) -> DataError:
    return DataError(
        expected=_FORMS,
        got=got,
        remedy="Items are pairs (image, label), or mappings with image and label; images are "
        "uint8, pictures, or floating point in [0, 1].",
    )
