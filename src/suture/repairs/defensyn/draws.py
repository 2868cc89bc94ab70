"""Where a randomised module's random bits come from: outside, a seed, or torch's generator."""

from __future__ import annotations

import torch
from torch import Tensor

from suture.rng import bits
from suture.types import RepairedModel


class SamplingModule(RepairedModel):
    """A module whose forward draws for every input; the draw can be made repeatable.

    ``noise`` given to the forward decides; else ``seed`` does; else torch's global generator.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seed: int | None = None
        self._draws = 0

    def seed(self, seed: int | None) -> None:
        """Make the draws of all following forwards repeatable; ``None`` goes back to chance."""
        self._seed, self._draws = seed, 0

    def _noise(self, images: Tensor, noise: Tensor | None) -> Tensor | None:
        """int64 ``(n,)``, random bits of each image; ``None`` leaves the draw to torch."""
        if noise is not None or self._seed is None:
            return noise
        rows = torch.arange(images.shape[0], device=images.device)
        noise = bits(torch.full_like(rows, self._seed), self._draws + rows)
        self._draws += images.shape[0]
        return noise
