"""Which model, which images: names for work that is kept and found again."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor, nn

from suture.models.checks import fingerprint
from suture.types import LabelledImages

_PIECE_VALUES = 2**24


def identity(model: nn.Module, data: LabelledImages) -> str:
    """Says which model and which images: SHA-256 of weights, images and labels.

    Images in files are named by the files' bytes: nothing is decoded.
    """
    return " ".join([fingerprint(model), data.known or pixels(data), digest(data.labels)])


def pixels(data: LabelledImages) -> str:
    """The ``digest`` of all images as one tensor, computed piece by piece."""
    found = hashlib.sha256(repr((len(data), *data.shape)).encode())
    for piece in data.split(max(1, _PIECE_VALUES // math.prod(data.shape))):
        found.update(_bytes(piece.images))
    return found.hexdigest()


def digest(tensor: Tensor) -> str:
    """SHA-256 over a tensor's shape and bytes."""
    found = hashlib.sha256(repr(tuple(tensor.shape)).encode())
    found.update(_bytes(tensor))
    return found.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    plain = tensor.detach().cpu().contiguous().flatten()
    return plain.view(torch.uint8).numpy().tobytes()
