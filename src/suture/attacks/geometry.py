"""Distances and projections per image, exact for any batch size.

torch's own reductions may sum in another order when the batch changes. ``row_sum`` folds halves
onto each other with element-wise additions, so the result for an image depends on that image only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from suture.errors import ArgumentError
from suture.types import Norm


def row_sum(values: Tensor) -> Tensor:
    """Sum over all but the first axis, shape ``(n,)``; the same bits for any batch."""
    values = values.flatten(1)
    while (width := values.shape[1]) > 1:
        half = (width + 1) // 2
        folded = values[:, :half].clone()
        folded[:, : width - half] += values[:, half:]
        values = folded
    return values[:, 0]


def column(values: Tensor) -> Tensor:
    """``(n,)`` as ``(n, 1, 1, 1)``, to broadcast over images."""
    return values[:, None, None, None]


def distance(norm: Norm, delta: Tensor) -> Tensor:
    """Norm of each image's perturbation, ``(n,)``; "l0" counts changed pixels, not channels."""
    if norm == "linf":
        return delta.abs().flatten(1).amax(1)
    if norm == "l2":
        return row_sum(delta * delta).sqrt()
    if norm == "l1":
        return row_sum(delta.abs())
    return (delta != 0).any(1).flatten(1).sum(1).to(delta.dtype)


def project(norm: Norm, eps: float, clean: Tensor, images: Tensor) -> Tensor:
    """The images moved into the ball around ``clean`` and into [0, 1].

    For "l2" the perturbation is shortened along its direction, which stays in [0, 1] because both
    ends are. An unbounded radius (``inf``) only clips to [0, 1].
    """
    images = images.clamp(0.0, 1.0)
    if eps == float("inf"):
        return images
    if norm == "linf":
        return torch.minimum(torch.maximum(images, clean - eps), clean + eps).clamp(0.0, 1.0)
    if norm == "l2":
        delta = images - clean
        length = distance("l2", delta)
        shrink = torch.where(length > eps, eps / length.clamp_min(1e-30), torch.ones_like(length))
        return (clean + delta * column(shrink)).clamp(0.0, 1.0)
    raise ArgumentError(
        expected='a norm that has a projection here ("linf" or "l2")',
        got=repr(norm),
        remedy="Use an attack made for that norm.",
    )


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """``logit of the label - highest other logit``, ``(n,)``; negative means misclassified.

    A tie is 0: whether it counts as right is decided by ``argmax``, not here.
    """
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return (own - others.amax(1, keepdim=True))[:, 0]
