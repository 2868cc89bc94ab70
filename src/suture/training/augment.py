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
        images: float32 ``(n, channels, height, width)`` in [0, 1]; they stay on their device.
        positions: int64 ``(n,)``, each image's position in the training split.
        kind: "none", "shift" (by up to a 28th of the side: one pixel of 28), "flip-crop" or
            "crop-rotate".
        stream: the epoch's.
    """
    if kind == "none":
        return images
    keys = bits(positions, stream.key & _POSITIVE).to(images.device)
    if kind == "shift":
        return shifted(images, keys, 28)
    if kind == "flip-crop":
        mirror = (integers(bits(keys, 0), 2) == 1)[:, None, None, None]
        return shifted(torch.where(mirror, images.flip(3), images), keys)
    angles = uniform(bits(keys, 3), -DEGREES, DEGREES) * (math.pi / 180)
    return shifted(rotated(images, angles), keys)


def shifted(images: Tensor, keys: Tensor, part: int = 8) -> Tensor:
    """A random crop of the zero-padded images.

    Args:
        images: ``(n, channels, height, width)``.
        keys: int64 ``(n,)``.
        part: the padding is so small a part of the side, rounded: an eighth is 4 of 28 or 32.
    """
    height, width = images.shape[2:]
    down, across = ((side + part // 2) // part for side in (height, width))
    padded = F.pad(images, (across, across, down, down))
    top, left = integers(bits(keys, 1), 2 * down + 1), integers(bits(keys, 2), 2 * across + 1)
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)
    return crops[torch.arange(len(images), device=images.device), :, top, left]


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
