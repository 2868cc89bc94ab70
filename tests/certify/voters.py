"""Small classifiers that vote, for tests of certificates by counting."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from suture.certify.smoothing import RandomCopies
from suture.types import RepairedModel, Voting


class Halfspace(nn.Module):
    """Class 1 where ``w · x > b``; what smoothing certifies of it is known exactly."""

    def __init__(self, normal: Tensor, offset: float) -> None:
        super().__init__()
        self.normal, self.offset = nn.Parameter(normal), offset

    def forward(self, images: Tensor) -> Tensor:
        side = images.flatten(1) @ self.normal.flatten() - self.offset
        return torch.stack([-side, side], 1)


class Voter(RepairedModel):
    """Any base under any noise."""

    def __init__(
        self,
        base: nn.Module,
        noise: RandomCopies,
        n0: int = 50,
        n: int = 3000,
        alpha: float = 0.001,
    ) -> None:
        super().__init__()
        self.base, self.noise, self.counts = base, noise, (n0, n, alpha)

    def forward(self, images: Tensor) -> Tensor:
        return self.base(self.noise.whole(images))

    def voting(self) -> Voting:
        return Voting(self.base, self.noise, *self.counts)


def halfspace(sigma: float = 0.25, **counts: float) -> Voter:
    """On images ``(1, 4, 4)``: brighter than one half or not."""
    from suture.certify.smoothing import Gaussian

    return Voter(Halfspace(torch.full((16,), 0.25), 2.0), Gaussian(sigma), **counts)  # type: ignore[arg-type]
