"""What gradient attacks share: steepest directions, random starts, and rows that leave together."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from suture.attacks import ascent_kernels, kernels
from suture.attacks.geometry import column, distance, project
from suture.attacks.oracle import Oracle
from suture.rng import integers, normal, uniform
from suture.types import Norm


class Rows:
    """Tensors with one entry per image still attacked; ``leave`` drops entries from all of them.

    Attributes are set freely; every tensor attribute counts. ``place`` is where each image stood
    at the beginning.
    """

    def __init__(self, **tensors: Tensor) -> None:
        first = next(iter(tensors.values()))
        self.place = torch.arange(len(first), device=first.device)
        vars(self).update(tensors)

    def __len__(self) -> int:
        return len(self.place)

    def __getattr__(self, name: str) -> Tensor:
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Tensor) -> None:
        vars(self)[name] = value

    def leave(self, gone: Tensor) -> None:
        """Drop the entries where ``gone`` is true."""
        if bool(gone.any()):
            stay = (~gone).nonzero()[:, 0]
            left = {name: tensor.index_select(0, stay) for name, tensor in vars(self).items()}
            vars(self).update(left)


def cross_entropies(logits: Tensor, goals: Tensor) -> Tensor:
    """Cross entropy per image."""
    return cross_entropy(logits, goals, reduction="none")


def steepest(norm: Norm, gradient: Tensor) -> Tensor:
    """The direction of length 1 (in ``norm``) along the gradient, for L∞ and L2."""
    if norm == "linf":
        return gradient.sign()
    return gradient / column(distance("l2", gradient).clamp_min(1e-12))


def steepest_l1(gradient: Tensor, images: Tensor, sparsity: float) -> Tensor:
    """SLIDE's direction (Tramèr & Boneh 2019, section 4): the sign on the largest entries only.

    Entries that would push a value out of [0, 1] count as zero. Length 1 in L1.
    """
    blocked = ((images <= 0.0) & (gradient < 0)) | ((images >= 1.0) & (gradient > 0))
    free = gradient.masked_fill(blocked, 0.0)
    sizes = free.abs().flatten(1)
    count = max(1, round((1.0 - sparsity) * sizes.shape[1]))
    least = sizes.topk(count, dim=1).values[:, -1]
    signs = free.sign() * (free.abs() >= column(least))
    number = signs.ne(0).flatten(1).sum(1).clamp_min(1)
    return signs / column(number.to(signs.dtype))


def ascended(norm: Norm, eps: float, state: Rows, step: float, sparsity: float = 0.99) -> Tensor:
    """One step of length ``step`` in the steepest direction, and back into the ball.

    Args:
        state: with ``here``, ``clean`` and ``gradient``.
        sparsity: L1 only: the share of entries that a step leaves alone.
    """
    given = (state.here, state.clean, state.gradient)
    if norm == "linf" and kernels.compiles(*given):
        moved, numbers = torch.empty_like(state.here), (np.float32(step), np.float32(eps))
        ascent_kernels.signed_step(*kernels.flat(*given), *numbers, *kernels.flat(moved))
        return moved
    if norm == "l1":
        along = steepest_l1(state.gradient, state.here, sparsity)
    else:
        along = steepest(norm, state.gradient)
    return project(norm, eps, state.clean, along.mul_(step).add_(state.here))


def random_start(
    norm: Norm, eps: float, oracle: Oracle, clean: Tensor, rows: Tensor, restart: int
) -> Tensor:
    """A point drawn uniformly from each image's ball, clipped to [0, 1]."""
    pixels = torch.arange(clean[0].numel(), device=clean.device)
    first = oracle.random_bits(rows, restart, pixels[None])
    if norm == "linf":
        offset = uniform(first, -eps, eps).reshape(clean.shape)
    elif norm == "l2":
        offset = normal(first, oracle.random_bits(rows, restart, pixels[None] + len(pixels)))
        offset = offset.reshape(clean.shape)
        share = uniform(oracle.random_bits(rows, restart, 2 * len(pixels)))
        # share ** (1/d); torch.pow rounds differently at the end of a tensor than in its middle.
        radius = eps * torch.exp(torch.log(share) / len(pixels))
        offset = offset * column(radius / distance("l2", offset))
    else:
        offset = _in_l1_ball(eps, first, oracle.random_bits(rows, restart, len(pixels)))
        offset = offset.reshape(clean.shape)
    return project(norm, eps, clean, clean + offset)


def _in_l1_ball(eps: float, first: Tensor, spare: Tensor) -> Tensor:
    """Exponentials over their sum with one more of them, with random signs."""
    sizes = -torch.log1p(-uniform(first))
    total = distance("l1", sizes[:, :, None, None]) - torch.log1p(-uniform(spare))
    signs = integers(first, 2).to(sizes.dtype) * 2.0 - 1.0
    return eps * signs * sizes / total.clamp_min(1e-12)[:, None]
