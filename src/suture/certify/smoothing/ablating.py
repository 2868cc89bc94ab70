"""Images of which k pixels are kept: the rest is coded as "nothing" (Levine & Feizi 2020).

A pixel value x that is kept becomes the pair ``(x, 1 - x)``, an ablated one ``(0, 0)``, which no
value has: first all the channels of x, then those of ``1 - x``. All channels of a pixel are kept or
lost together. Kept are the k pixels with the largest random numbers: every set of k is as likely.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from suture.rng import GOLDEN, MIX1, MIX2, bits


def ablated(images: Tensor, keys: Tensor, keep: int) -> Tensor:
    """``(n, 2c, h, w)``: each row's own k pixels as pairs, zero elsewhere.

    Args:
        images: ``(n, c, h, w)``, or one ``(1, c, h, w)`` for all keys.
        keys: int64 ``(n,)``.
        keep: k, at most ``h · w``.
    """
    plain = images.device.type == "cpu" and images.dtype == torch.float32
    if plain and not images.requires_grad and not torch.compiler.is_compiling():
        flat = np.ascontiguousarray(images.detach().flatten(2).numpy())
        out = np.zeros((len(keys), 2 * flat.shape[1], flat.shape[2]), np.float32)
        _fill(flat, keys.contiguous().numpy(), keep, out)
        return torch.from_numpy(out).view(len(keys), -1, *images.shape[2:])
    kept = kept_pixels(keys, images.shape[2] * images.shape[3], keep)
    return encoded(images, kept.view(-1, 1, *images.shape[2:]).to(images.dtype))


def encoded(images: Tensor, kept: Tensor | None = None) -> Tensor:
    """``(x, 1 - x)`` where kept is 1, ``(0, 0)`` where it is 0; everywhere without it.

    Args:
        images: ``(n, c, h, w)``.
        kept: ``(n, 1, h, w)``.
    """
    pairs = torch.cat([images, 1 - images], 1)
    return pairs if kept is None else pairs * kept


def kept_pixels(keys: Tensor, pixels: int, keep: int) -> Tensor:
    """Bool ``(n, pixels)``: the k with the largest random numbers."""
    drawn = bits(keys[:, None], torch.arange(pixels, device=keys.device))
    chosen = drawn.topk(keep, 1).indices
    return torch.zeros_like(drawn, dtype=torch.bool).scatter(1, chosen, True)


_G, _M1, _M2 = (np.uint64(v) for v in (GOLDEN, MIX1, MIX2))


@numba.njit(cache=True, error_model="numpy", nogil=True)
def _fill(images, keys, keep, out):  # type: ignore[no-untyped-def]
    """``out`` must be zero; rows of ``images``, one for all or one a key."""
    shared, channels, pixels = len(images) == 1, images.shape[1], images.shape[2]
    drawn, order = np.empty(pixels, np.int64), np.empty(pixels + 1, np.int64)
    for row in range(len(keys)):
        image, made = images[0 if shared else row], out[row]
        _draw(np.uint64(keys[row]), drawn)
        for at in _largest(drawn, keep, order):
            for c in range(channels):
                made[c, at] = image[c, at]
                made[channels + c, at] = np.float32(1) - image[c, at]


@numba.njit(cache=True, error_model="numpy", nogil=True)
def _draw(key, drawn):  # type: ignore[no-untyped-def]
    """A random number for every pixel."""
    for j in range(len(drawn)):
        z = key + np.uint64(j + 1) * _G
        z = (z ^ (z >> np.uint64(30))) * _M1
        z = (z ^ (z >> np.uint64(27))) * _M2
        drawn[j] = np.int64(z ^ (z >> np.uint64(31)))


@numba.njit(cache=True, error_model="numpy", nogil=True)
def _largest(values, keep, order):  # type: ignore[no-untyped-def]
    """Positions of the ``keep`` largest values, in no order; ``order`` has one place more.

    Values are uniform: the likely ones are above a threshold that lets a few more through, so only
    those are sorted. Should they be too few, all are.
    """
    count = len(values)
    share = min(1.0, (keep + 5.0 * np.sqrt(keep) + 5.0) / count)
    threshold = np.int64(9223372036854775807.0 * (1.0 - 2.0 * share) * 0.999999)
    found = 0
    for j in range(count):
        order[found] = j
        found += 1 if values[j] >= threshold else 0
    if found < keep or share >= 1.0:
        return np.argsort(values)[count - keep :]
    some = np.argsort(values[order[:found]])
    return order[some[found - keep :]]
