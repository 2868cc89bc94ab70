"""Subdomains: the boxes that branch and bound cuts regions into, and how it cuts on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from suture.repairs.advrepair.bounding import Relaxed

Relax = Callable[[Tensor, Tensor, Tensor], Relaxed]
"""Boxes ``(n, d)`` twice, and the region each is a part of → N's linear bounds on them."""


@dataclass(frozen=True, eq=False)
class Subdomains:
    """The boxes that the regions are cut into.

    Attributes:
        linear: N's bounds on them.
        region: int64 ``(n,)``: which region each box is a part of.
        owner: int64 ``(n,)``: its patch.
    """

    linear: Relaxed
    region: Tensor
    owner: Tensor

    def __getitem__(self, index: Tensor) -> Subdomains:
        return Subdomains(self.linear[index], self.region[index], self.owner[index])

    @staticmethod
    def concat(parts: list[Subdomains]) -> Subdomains:
        """All boxes of some parts."""
        return Subdomains(
            Relaxed.concat([p.linear for p in parts]),
            torch.cat([p.region for p in parts]),
            torch.cat([p.owner for p in parts]),
        )


def worth_halving(linear: Relaxed, missing: Tensor, slope: Tensor) -> Tensor:
    """``argmax_d |∂_d L| · width_d``, L being the sum of the forms that are still violated.

    Args:
        missing: ``(n, k)``, what each form lacks.
        slope: ``(n, k, d)``, of its lower bound.
    """
    violated = (missing > 0).to(slope.dtype)
    push = torch.einsum("nk,nkd->nd", violated, slope).abs()
    return (push * (linear.upper - linear.lower)).argmax(1)


def halved(subdomains: Subdomains, chosen: Tensor, axis: Tensor, relax: Relax) -> Subdomains:
    """The boxes with some of them cut in the middle of an axis; new ones come last.

    Args:
        chosen: int64 ``(c,)``.
        axis: int64 ``(c,)``.
    """
    old, at = subdomains[chosen], torch.arange(len(chosen))
    middle = (old.linear.lower[at, axis] + old.linear.upper[at, axis]) / 2
    parts = []
    for side in (0, 1):
        lower, upper = old.linear.lower.clone(), old.linear.upper.clone()
        (lower if side else upper)[at, axis] = middle
        parts.append(Subdomains(relax(lower, upper, old.region), old.region, old.owner))
    keep = torch.ones(len(subdomains.region), dtype=torch.bool)
    keep[chosen] = False
    return Subdomains.concat([subdomains[keep.nonzero()[:, 0]], *parts])


def divided(subdomains: Subdomains, cuts: int, relax: Relax) -> Subdomains:
    """The boxes cut on until there are ``cuts`` of them, or N alone is proved on all: those whose
    worst form lacks most come first."""
    while len(subdomains.region) < cuts:
        missing = -torch.nan_to_num(subdomains.linear.alone(), float("-inf"))
        worst, order = missing.amax(1).sort(descending=True, stable=True)
        chosen = order[worst > 0][: cuts - len(order)]
        if not len(chosen):
            return subdomains
        axis = worth_halving(
            subdomains.linear[chosen], missing[chosen], subdomains.linear.slope[chosen]
        )
        subdomains = halved(subdomains, chosen, axis, relax)
    return subdomains


def largest(losses: Tensor, owner: Tensor, count: int) -> Tensor:
    """Boxes with a positive loss, at most ``count`` of the largest per patch."""
    order = losses.argsort(descending=True, stable=True)
    order = order[owner[order].argsort(stable=True)]
    own = owner[order]
    first = torch.searchsorted(own, own)
    rank = torch.arange(len(own)) - first
    return order[(rank < count) & (losses[order] > 0)]
