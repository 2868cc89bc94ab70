"""Fixed, seeded, stratified choices: the same in every process, on every platform and version."""

from __future__ import annotations

import torch
from torch import Tensor

from suture.errors import ArgumentError
from suture.rng import Stream, bits

DEFAULT_SHARE, DEFAULT_MOST = 0.1, 5_000
_POSITIVE = (1 << 63) - 1


def permutation(count: int, stream: Stream) -> Tensor:
    """A random order of ``0 .. count-1``, int64 ``(count,)``.

    Sorted counter-based bits rather than ``torch.randperm``: integer arithmetic only, so the order
    is the same under every version of torch.
    """
    keys = torch.full((count,), stream.key & _POSITIVE, dtype=torch.int64)
    return torch.argsort(bits(keys, torch.arange(count)), stable=True)


def stratified(labels: Tensor, count: int, stream: Stream) -> Tensor:
    """A mask, bool ``(n,)``, of ``count`` examples with every class in proportion.

    Examples are shuffled, sorted by class, and every ``n / count``-th is taken: each class gets its
    share of ``count`` to within one.
    """
    order = permutation(len(labels), stream)
    order = order[torch.argsort(labels[order], stable=True)]
    steps = torch.arange(count, dtype=torch.int64)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[order[(2 * steps + 1) * len(labels) // (2 * max(count, 1))]] = True
    return chosen


def validation_count(total: int, wanted: int | float | None) -> int:
    """How many of ``total`` training images validate.

    Args:
        total: images in the official training set.
        wanted: a number of images, a share below 1, or ``None`` for 10 %, at most 5 000.

    Raises:
        ArgumentError: when nothing would be left to train on.
    """
    if wanted is None:
        return min(int(DEFAULT_SHARE * total), DEFAULT_MOST)
    share = isinstance(wanted, float)
    sensible = 0 <= wanted < 1 if share else 0 <= wanted < max(total, 1)
    if not sensible:
        raise ArgumentError(
            expected=f"validation as a share in [0, 1) or a number below {total}",
            got=f"validation={wanted!r}",
            remedy="Leave it out for a tenth of the training set.",
        )
    return int(wanted * total) if share else int(wanted)
