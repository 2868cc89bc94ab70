"""Random noise: the sanity row that every real attack must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from suture.attacks.base import ATTACKS, Attack, require
from suture.attacks.geometry import column, distance, project
from suture.attacks.oracle import Oracle
from suture.rng import integers, normal, uniform
from suture.types import Knowledge


@ATTACKS.add("noise")
@dataclass(frozen=True, kw_only=True)
class RandomNoise(Attack):
    """Independent random points on the border of the ball.

    L∞: every pixel ±eps. L2: a uniform direction scaled to eps. ``eps=inf`` draws every pixel
    uniformly from [0, 1], ignoring the image: the row for an unbounded radius.

    Args:
        queries: tries per image; it stops at the first that is misclassified.
    """

    queries: int = 10

    knowledge: ClassVar[Knowledge] = "black-box"

    def __post_init__(self) -> None:
        super().__post_init__()
        enough = self.queries >= (1 if self.adaptive else self.eot)
        require(enough, "queries >= eot", f"queries={self.queries!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        found = images.clone()
        active = torch.arange(len(images), device=images.device)
        for step in range(self.allowance(oracle, self.queries)):
            clean, owners = images[active], rows[active]
            candidates = project(
                self.norm, self.eps, clean, self._draw(oracle, clean, owners, step)
            )
            reached = oracle.reached(oracle.logits(candidates, owners), owners)
            found[active[reached]] = candidates[reached]
            active = active[~reached]
            if not len(active):
                break
        return found

    def _draw(self, oracle: Oracle, clean: Tensor, owners: Tensor, step: int) -> Tensor:
        pixels = torch.arange(clean[0].numel(), device=clean.device)[None]
        first = oracle.random_bits(owners, step, pixels)
        if self.eps == float("inf"):
            return uniform(first).reshape(clean.shape)
        if self.norm == "linf":
            signs = integers(first, 2).to(clean.dtype) * 2.0 - 1.0
            return clean + self.eps * signs.reshape(clean.shape)
        second = oracle.random_bits(owners, step, pixels + pixels.shape[1])
        direction = normal(first, second).reshape(clean.shape)
        return clean + direction * column(self.eps / distance("l2", direction))
