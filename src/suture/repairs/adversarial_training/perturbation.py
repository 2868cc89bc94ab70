"""Adversarial weight perturbation (Wu et al. 2020, arXiv:2004.05884)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def perturbed(
    weights: Sequence[nn.Parameter], gradients: Sequence[Tensor | None], gamma: float
) -> Iterator[None]:
    """Inside, every weight is ``w + γ · ‖w‖ / ‖g‖ · g`` (Eq. 8 and 10); afterwards ``w`` again.

    As in the authors' code the size is relative to each layer's own norm, and only weights with
    two axes or more move: no biases, no scales of batch norm.

    Args:
        gradients: of the loss with respect to each weight; ``None`` for those it does not touch.
        gamma: γ, the relative size (authors: 0.01 for PGD, 0.005 for TRADES on CIFAR-10).
    """
    moved = [
        (weight, gradient)
        for weight, gradient in zip(weights, gradients, strict=True)
        if gradient is not None and weight.ndim > 1
    ]
    before = [weight.detach().clone() for weight, _ in moved]
    with torch.no_grad():
        for weight, gradient in moved:
            weight.add_(gradient * (gamma * weight.norm() / (gradient.norm() + 1e-20)))
    try:
        yield
    finally:
        with torch.no_grad():
            for (weight, _), value in zip(moved, before, strict=True):
                weight.copy_(value)
