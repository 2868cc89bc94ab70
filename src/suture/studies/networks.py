"""Networks that others trained, from the data folder; and a network's answers, piece by piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from suture import data, models
from suture.errors import DataError


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

    Raises:
        DataError: not there.
    """
    return models.load(in_folder("nets", f"{name}.onnx"), **how)


@torch.no_grad()
def in_pieces(model: nn.Module, images: Tensor, size: int = 256) -> Tensor:
    """What a model makes of images, ``size`` of them at a time."""
    return torch.cat([model(piece) for piece in images.split(size)])
