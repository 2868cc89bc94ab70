"""Adversarial training with a single step: N-FGSM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from suture.repairs.adversarial_training.inner import held_fixed
from suture.repairs.adversarial_training.method import AdversarialTraining
from suture.repairs.base import REPAIRS


@REPAIRS.add("n-fgsm")
@dataclass(frozen=True, kw_only=True)
class NFGSM(AdversarialTraining):
    """N-FGSM (de Jorge et al. 2022, arXiv:2202.01181): ``x' = x + η + α·sign ∇ CE(f(x + η), y)``.

    One step from strong noise, η uniform in ±k·eps, not clipped to the ball (Algorithm 1), only to
    [0, 1]. Half the time of PGD training a step. Every epoch is checked for catastrophic
    overfitting by PGD on held-out images: when that leaves less than half of what it left before,
    training ends, and the averaged weights of the epoch before are judged and kept.

    Args:
        steps: one; more are refused.
        step_size: α, pixel values; ``None`` for eps (the paper's).
        k: width of the noise, in radii (paper: 2).
    """

    steps: int = 1
    k: float = 2.0

    watched: ClassVar[bool] = True

    def _checks(self) -> dict[str, bool]:
        return super()._checks() | {"k >= 0": self.k >= 0, "steps = 1": self.steps == 1}

    @property
    def step(self) -> float:
        """α."""
        return self.step_size or self.eps

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Uniform in ±k·eps."""
        width = self.k * self.eps
        return torch.rand(shape, generator=generator).mul_(2 * width).sub_(width)

    def attacked(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        noise: Tensor,
        fixed: Sequence[nn.Parameter] = (),
    ) -> Tensor:
        """The single step."""
        here = (images + noise).requires_grad_(True)
        with held_fixed(fixed):
            (gradient,) = torch.autograd.grad(cross_entropy(model(here), labels), here)
        return here.detach().add_(gradient.sign_(), alpha=self.step).clamp_(0, 1)
