"""DeepXplore (Pei, Cao, Yang & Jana 2017, arXiv:1705.06640), as an attack."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from suture import models
from suture.attacks.base import ATTACKS, require
from suture.attacks.coverage import CoverageAscent


@ATTACKS.add("deepxplore")
@dataclass(frozen=True, kw_only=True)
class DeepXplore(CoverageAscent):
    """An input on which the attacked model disagrees with others, and sleeping neurons awake.

    Raises ``Σ_j p_y^(j) - apart · p_y + weight · Σ_n z_n`` (paper, Eqs. 2 and 3): the models
    ``beside`` keep the label, the attacked one leaves it. p is the softmax.

    It needs at least one other model: without, only the attacked model's confidence is lowered.
    In the paper any model may be the one that leaves and the images' constraint is light,
    occlusion or dirt; here it is the attacked model, inside of the ball.

    Args:
        apart: λ₁, how much the attacked model's confidence counts.
        beside: references of the other models (as for ``suture.models.load``), with the same
            classes and input.
    """

    apart: float = 1.0
    beside: tuple[str, ...] = ()
    neurons: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.apart > 0, "apart > 0", f"apart={self.apart!r}")

    def objective(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """``Σ_j p_y^(j) - apart · p_y``."""
        column = labels[:, None]
        value = -self.apart * logits.softmax(1).gather(1, column)[:, 0]
        for reference in self.beside:
            other = _opened(reference).to(images.device)
            value = value + other(images).softmax(1).gather(1, column)[:, 0]
        return value


@lru_cache(maxsize=8)
def _opened(reference: str) -> nn.Module:
    model = models.load(reference).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.requires_grad_(False)
    return model
