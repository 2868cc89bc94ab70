"""Counting votes: the classes of noisy copies of one image, piece by piece.

Copy number s of an image has the key ``bits(key, phase, s)``, and the image's key is a function of
its pixels and a stream. Copies are classified in blocks of a fixed size: sums inside a network may
round otherwise in another block, and then another class may win. So a count depends on nothing but
image, stream, network and noise.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from suture.errors import ModelError
from suture.rng import Stream, bits, image_keys
from suture.types import RepairedModel, Voting, described

BLOCK = 128
"""Copies of a forward."""
PIECE = 8 * BLOCK
"""Copies whose votes are noted together: a checker draws some pieces again."""
SELECT, ESTIMATE, FRESH = 0, 1, 2
"""Phases: what a copy is drawn for."""
Copies = Callable[[Tensor, Tensor], Tensor]


def voting_of(model: nn.Module) -> Voting:
    """What is certified of a model.

    Raises:
        ModelError: it does not vote over noisy copies.
    """
    voting = described(model).voting()
    if voting is None:
        raise ModelError(
            expected="a classifier that votes over noisy copies of the image",
            got=f"a {type(model).__name__} that does not",
            remedy="suture repair --method smoothing makes one.",
        )
    return voting


def votes(model: RepairedModel | nn.Module) -> bool:
    """Whether a model can be certified by counting."""
    return described(model).voting() is not None


def key_of(image: Tensor, stream: Stream) -> Tensor:
    """int64 ``()``: of one image ``(c, h, w)``."""
    return image_keys(image[None], stream)[0]


def classes(
    base: nn.Module, copies: Copies, image: Tensor, key: Tensor, phase: int, start: int, stop: int
) -> Tensor:
    """int64 ``(stop - start,)``: classes of the copies with these numbers.

    Args:
        base: in eval mode.
        copies: makes them of ``(1, c, h, w)`` and keys.
        image: ``(c, h, w)``.
        start: a multiple of ``BLOCK``, so that blocks are the same whoever asks.
    """
    keys = bits(key, phase, torch.arange(start, stop, device=image.device))
    with torch.no_grad():
        found = [base(copies(image[None], block)).argmax(1) for block in keys.split(BLOCK)]
    return torch.cat(found)


def width_of(voting: Voting, image: Tensor) -> int:
    """Number of classes; ``image`` is ``(1, c, h, w)``. Draws nothing from torch's generator."""
    key = torch.zeros(1, dtype=torch.int64, device=image.device)
    return int(voting.base(voting.noise.copies(image, key)).shape[1])


def counts(voting: Voting, image: Tensor, key: Tensor, phase: int, n: int, width: int) -> Tensor:
    """int64 ``(pieces, width)``: how often each class was voted for, ``PIECE`` copies a row."""
    rows = []
    for start in range(0, n, PIECE):
        stop = min(n, start + PIECE)
        found = classes(voting.base, voting.noise.copies, image, key, phase, start, stop)
        rows.append(found.bincount(minlength=width))
    return torch.stack(rows)
