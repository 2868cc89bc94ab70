"""The loss of certified training, and what intervals certify of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from suture import bounds
from suture.bounds import Method, Network
from suture.types import Box


@dataclass(frozen=True, eq=False)
class Judged:
    """A batch's loss and which of its images are right, and certified at the radius used.

    Attributes:
        loss: scalar, with gradient; mean over the batch.
        right: bool ``(n,)``.
        certified: bool ``(n,)``; right and proved by the bounds that the loss was made of.
    """

    loss: Tensor
    right: Tensor
    certified: Tensor


FUSED_FROM = 20
"""Classes from which on the loss is bounded as a whole: a row for each costs more than it gains."""


def certified_loss(
    network: Network,
    images: Tensor,
    labels: Tensor,
    eps: float,
    share: float,
    natural: float,
    *,
    fusion: bool | None = None,
) -> Judged:
    """``natural · CE + (1 - natural) · CE_worst`` (Zhang et al. 2020, Eq. 8; A5, Eq. 2, 3).

    ``CE_worst`` is the cross entropy of the negated margins over the L∞ ball, clipped to [0, 1];
    the margins are ``share · CROWN-IBP + (1 - share) · IBP``.

    Args:
        network: the classifier; gradients reach its weights, and the images.
        images: ``(n, *in_shape)``.
        labels: int64 ``(n,)``.
        eps: radius, pixel values in [0, 1]; 0 leaves the natural loss alone.
        share: of CROWN-IBP, in [0, 1].
        natural: of the natural loss, in [0, 1].
        fusion: bound the loss by one row (``bounds.fused_cross_entropy``) in place of a row a
            class; ``None`` where there are ``FUSED_FROM`` classes or more.
    """
    logits = network(images) if natural > 0 or eps == 0 else None
    if eps == 0:
        assert logits is not None
        right = logits.argmax(1) == labels
        return Judged(F.cross_entropy(logits, labels), right, right)
    box = Box((images - eps).clamp(0, 1), (images + eps).clamp(0, 1))
    worst, held = _worst(network, box, labels, share, fusion)
    if logits is None:
        with torch.no_grad():
            logits = network(images)
        return Judged(worst, logits.argmax(1) == labels, held)
    loss = natural * F.cross_entropy(logits, labels) + (1 - natural) * worst
    return Judged(loss, logits.argmax(1) == labels, held)


def _worst(
    network: Network, box: Box, labels: Tensor, share: float, fusion: bool | None
) -> tuple[Tensor, Tensor]:
    """The mean worst-case cross entropy, and which images keep their class."""
    if network.out_shape[-1] >= FUSED_FROM if fusion is None else fusion:
        each, held = bounds.fused_cross_entropy(network, box, labels, share)
        return each.mean(), held
    margins = bounds.mixed_margins(network, box, labels, share)
    return bounds.worst_case_cross_entropy(margins, labels), _positive(margins, labels)


def _positive(margins: Tensor, labels: Tensor) -> Tensor:
    own = F.one_hot(labels, margins.shape[1]).bool()
    return margins.detach().masked_fill(own, float("inf")).amin(1) > 0


@torch.no_grad()
def interval_margins(
    network: Network, images: Tensor, labels: Tensor, eps: float, method: Method = "ibp"
) -> Tensor:
    """The smallest margin ``(n,)`` of each image over its ball, clipped to [0, 1]."""
    box = Box((images - eps).clamp(0, 1), (images + eps).clamp(0, 1))
    margins = bounds.margins(network, box, labels, method)
    own = F.one_hot(labels, margins.shape[1]).bool()
    return margins.masked_fill(own, float("inf")).amin(1)
