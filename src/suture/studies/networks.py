"""Networks that others trained, from the data folder; and a network's answers, piece by piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from suture import data, models
from suture.errors import DataError
from suture.studies import shelf
from suture.types import Batch


def in_folder(*names: str) -> Path:
    """A file of the data folder.

    Raises:
        DataError: not there.
    """
    place = data.folder()
    path = None if place is None else place.joinpath(*names)
    if path is None or not path.is_file():
        raise DataError(
            expected=f"{'/'.join(names)} in the data folder",
            got="no data folder" if place is None else "no such file",
            remedy="Set SUTURE_DATA to the data folder.",
        )
    return path


def network(name: str, **how: Any) -> nn.Module:
    """A network of the data folder, without ``.onnx``; ``how`` as ``models.load`` takes it.

    It is on the study's device.

    Raises:
        DataError: not there.
    """
    return here(models.load(in_folder("nets", f"{name}.onnx"), **how))


Placed = TypeVar("Placed", nn.Module, Batch, Tensor)


def here(given: Placed) -> Placed:
    """The model, batch or tensor on the study's device; a model is moved, not copied."""
    return given.to(shelf.device())


@torch.no_grad()
def in_pieces(model: nn.Module, images: Tensor, size: int = 256) -> Tensor:
    """What a model makes of images, ``size`` of them at a time."""
    return torch.cat([model(piece) for piece in images.split(size)])
