"""Distances and projections per image, exact for any batch size.

torch's own reductions may sum in another order when the batch changes. ``row_sum`` folds halves
onto each other with element-wise additions, so the result for an image depends on that image only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from suture.attacks import kernels
from suture.types import Norm


def row_sum(values: Tensor) -> Tensor:
    """Sum over all but the first axis, shape ``(n,)``; the same bits for any batch."""
    values = values.flatten(1)
    while (width := values.shape[1]) > 1:
        half = (width + 1) // 2
        if width % 2 == 0:  # the same sums in one pass
            values = values[:, :half] + values[:, half:]
            continue
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
    ends are. "l1" is the nearest point of the ball and the box together. "l0" keeps the ``eps``
    pixels that changed most. An unbounded radius (``inf``) only clips to [0, 1].
    """
    if norm == "linf" and eps < float("inf"):
        low, high = (clean - eps).clamp_min_(0.0), (clean + eps).clamp_max_(1.0)
        return images.clamp(low, high)
    images = images.clamp(0.0, 1.0)
    if eps == float("inf"):
        return images
    if norm == "l1":
        return _onto_l1(eps, clean, images)
    if norm == "l0":
        return _onto_l0(int(eps), clean, images)
    delta = images - clean
    length = distance("l2", delta)
    shrink = torch.where(length > eps, eps / length.clamp_min(1e-30), torch.ones_like(length))
    return (clean + delta * column(shrink)).clamp(0.0, 1.0)


def _onto_l1(eps: float, clean: Tensor, images: Tensor, halvings: int = 30) -> Tensor:
    """Every |δ| shortened by one λ per image, the smallest that fits (Croce & Hein 2021, Eq. 4).

    With images in [0, 1] already, soft thresholding cannot leave the box. λ is found by bisection;
    what is returned was measured to lie in the ball.
    """
    delta = images - clean
    outside = (distance("l1", delta) > eps).nonzero()[:, 0]
    if not len(outside):
        return images
    clean, delta = clean[outside], delta[outside]
    low, high = torch.zeros_like(delta[:, 0, 0, 0]), delta.abs().flatten(1).amax(1)
    for _ in range(halvings):
        middle = (low + high) / 2
        fits = distance("l1", _shortened(clean, delta, middle) - clean) <= eps
        low, high = torch.where(fits, low, middle), torch.where(fits, middle, high)
    result = images.clone()
    result[outside] = _shortened(clean, delta, high)
    return result


def _shortened(clean: Tensor, delta: Tensor, by: Tensor) -> Tensor:
    """``clean + sign(δ)·max(|δ| - λ, 0)``; where nothing is left, exactly ``clean``."""
    left = (delta.abs() - column(by)).clamp_min(0.0)
    return (clean + torch.copysign(left, delta)).clamp(0.0, 1.0)


def _onto_l0(pixels: int, clean: Tensor, images: Tensor) -> Tensor:
    change = (images - clean).abs().amax(1).flatten(1)
    order = change.argsort(dim=1, descending=True, stable=True)
    keep = torch.zeros_like(change, dtype=torch.bool)
    keep.scatter_(1, order[:, : max(0, pixels)], True)
    return torch.where(keep.reshape(len(clean), 1, *clean.shape[2:]), images, clean)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """``logit of the label - highest other logit``, ``(n,)``; negative means misclassified.

    A tie is 0: whether it counts as right is decided by ``argmax``, not here.
    """
    if kernels.compiles(logits):
        return kernels.judged(logits, labels)[1]
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return (own - others.amax(1, keepdim=True))[:, 0]
