"""A data set in numbers, for a terminal or a JSON record."""

from __future__ import annotations

from typing import Any

import torch

from suture.data.dataset import Dataset, Split


def summary(dataset: Dataset) -> dict[str, Any]:
    """Counts per split and class, shape, mean and standard deviation, source and notes.

    Plain JSON values. Decodes the training split once, for mean and standard deviation.
    """
    return {
        "name": dataset.name,
        "source": dataset.source,
        "notes": dataset.notes,
        "in_shape": list(dataset.in_shape),
        "classes": dataset.classes,
        "class_names": list(dataset.class_names),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "splits": {name: _counts(split, dataset) for name, split in dataset.splits.items()},
    }


def _counts(split: Split, dataset: Dataset) -> dict[str, Any]:
    per_class = torch.bincount(split.labels, minlength=dataset.classes)
    return {"images": len(split), "per_class": per_class.tolist()}
