"""Augmentation per sample, with whole tensors.

Every image has its own random numbers, a function of its position in the training split and the
epoch's stream: the batch it lands in does not matter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from suture.rng import Stream, bits, integers, uniform
from suture.training.config import Augment

DEGREES = 10.0
_POSITIVE = (1 << 63) - 1


def augmented(images: Tensor, positions: Tensor, kind: Augment, stream: Stream) -> Tensor:
    """The images, each altered by its own draw.

    Args:
        images: float32 ``(n, channels, height, width)`` in [0, 1].
        positions: int64 ``(n,)``, each image's position in the training split.
        kind: "none", "flip-crop" or "crop-rotate".
        stream: the epoch's.
    """
    if kind == "none":
        return images
    keys = bits(positions, stream.key & _POSITIVE)
    if kind == "flip-crop":
        mirror = (integers(bits(keys, 0), 2) == 1)[:, None, None, None]
        return shifted(torch.where(mirror, images.flip(3), images), keys)
    angles = uniform(bits(keys, 3), -DEGREES, DEGREES) * (math.pi / 180)
    return shifted(rotated(images, angles), keys)


def shifted(images: Tensor, keys: Tensor) -> Tensor:
    """A random crop of the zero-padded images; the padding is an eighth of the side (4 of 28, 32).

    Args:
        images: ``(n, channels, height, width)``.
        keys: int64 ``(n,)``.
    """
    height, width = images.shape[2:]
    down, across = (height + 4) // 8, (width + 4) // 8
    padded = F.pad(images, (across, across, down, down))
    top, left = integers(bits(keys, 1), 2 * down + 1), integers(bits(keys, 2), 2 * across + 1)
    rows = (top[:, None] + torch.arange(height))[:, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, :]
    sample = torch.arange(len(images))[:, None, None]
    return padded.permute(0, 2, 3, 1)[sample, rows, columns].permute(0, 3, 1, 2).contiguous()


def rotated(images: Tensor, angles: Tensor) -> Tensor:
    """Each image turned about its centre by its angle (radians, counter-clockwise); zeros outside.

    Bilinear; sampling coordinates are corrected for images that are not square.
    """
    height, width = images.shape[2:]
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    first = torch.stack([cos, -sin * height / width, zero], dim=1)
    second = torch.stack([sin * width / height, cos, zero], dim=1)
    where = F.affine_grid(
        torch.stack([first, second], dim=1), list(images.shape), align_corners=False
    )
    return F.grid_sample(images, where, align_corners=False).clamp(0, 1)
