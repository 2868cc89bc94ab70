"""Classifiers whose forward gives an image the same bits in any batch, for exact comparisons."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from suture.attacks.geometry import row_sum
from suture.rng import integers
from suture.types import Batch


class ExactLinear(nn.Module):
    """A linear classifier computed with element-wise operations only, with a dropout layer.

    The dropout (rate 0) is there to have a mode that an attack could flip.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int = 4, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        pixels = shape[0] * shape[1] * shape[2]
        self.weight = nn.Parameter(torch.randn(classes, pixels, generator=generator))
        self.bias = nn.Parameter(torch.randn(classes, generator=generator))
        self.dropout = nn.Dropout(0.0)
        self.forwards = 0

    def forward(self, images: Tensor) -> Tensor:
        self.forwards += len(images)
        flat = self.dropout(images).flatten(1) - 0.5
        logits = [
            row_sum(flat * row) + bias for row, bias in zip(self.weight, self.bias, strict=True)
        ]
        return torch.stack(logits, 1)


class ExactRandom(ExactLinear):
    """The same, with one of eight random tilts of the logits per forward and image."""

    randomised = True

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        if noise is None:
            noise = torch.randint(0, 2**62, (len(images),))
        tilt = integers(noise, 8).to(images.dtype) - 3.5
        logits = super().forward(images)
        signs = torch.tensor([1.0, -1.0] * (logits.shape[1] // 2))
        return logits + tilt[:, None] * signs


def classified_batch(model: nn.Module, shape: tuple[int, int, int], n: int, seed: int) -> Batch:
    """Random images, most labelled as the model classifies them, the last one wrongly."""
    images = torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        logits = model(images)
    labels = logits.argmax(1)
    labels[-1] = logits[-1].argmin()
    return Batch(images, labels)
