"""torchvision's own copies of the public sets: already on disk, or fetched by torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from suture.data.checks import to_labels, to_stored
from suture.data.parts import Part, SourceContent
from suture.data.places import torchvision_root
from suture.data.reading import reading
from suture.data.stores import Memory

_IDX = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
_BATCHES = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
FILES: dict[str, list[str]] = {
    "MNIST": [f"MNIST/raw/{name}-ubyte" for name in _IDX],
    "FashionMNIST": [f"FashionMNIST/raw/{name}-ubyte" for name in _IDX],
    "CIFAR10": [f"cifar-10-batches-py/{name}" for name in (*_BATCHES, "batches.meta")],
    "SVHN": ["train_32x32.mat", "test_32x32.mat"],
}
"""For each torchvision class, the files below its root that make it complete."""


def on_disk(kind: str) -> bool:
    """Whether torchvision's files of that class are all there (not whether they are intact)."""
    root = torchvision_root()
    return all((root / name).is_file() for name in FILES[kind])


def read_torchvision(
    kind: str, name: str, class_names: tuple[str, ...], *, download: bool = False
) -> SourceContent:
    """Training and test set through ``torchvision.datasets``.

    CIFAR-10's files are pickles: torchvision opens them only after their MD5 matched the published
    one, which is the single exception to "suture executes no pickle".

    Args:
        kind: the class in ``torchvision.datasets``.
        name, class_names: for the data set.
        download: let torchvision fetch what is missing.

    Raises:
        DataError: for missing or damaged files, or when the download fails.
    """
    root = torchvision_root()
    with reading(root, f"torchvision's {kind}"):
        train, test = (_part(_open(kind, root, part, download), kind) for part in (True, False))
    return SourceContent(name, f"torchvision {kind} in {root}", class_names, train=train, test=test)


def _open(kind: str, root: Path, train: bool, download: bool) -> Any:
    from torchvision import datasets  # a second to import, and the embedded digits never need it

    if kind == "SVHN":
        return datasets.SVHN(str(root), split="train" if train else "test", download=download)
    return getattr(datasets, kind)(str(root), train=train, download=download)


def _part(opened: Any, kind: str) -> Part:
    images = np.asarray(opened.data)
    labels = np.asarray(opened.labels if kind == "SVHN" else opened.targets)
    store = Memory(to_stored(images, f"{kind} images"))
    return Part(store, to_labels(labels, len(images), f"{kind} labels"))
