"""Adversarial training with a single step: N-FGSM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from suture.repairs.adversarial_training.inner import held_fixed, single_step, uniform
from suture.repairs.adversarial_training.method import AdversarialTraining
from suture.repairs.base import REPAIRS


@REPAIRS.add("n-fgsm")
@dataclass(frozen=True, kw_only=True)
class NFGSM(AdversarialTraining):
    """N-FGSM (de Jorge et al. 2022, arXiv:2202.01181): ``x' = x + η + α·sign ∇ CE(f(x + η), y)``.

    One step from strong noise, η uniform in ±k·eps, clipped neither to the ball nor to [0, 1]
    (Algorithm 1). Half the time of PGD training a step. Every epoch is checked for catastrophic
    overfitting by PGD on held-out images: when that leaves less than half of what it left before,
    training ends, and the averaged weights of the epoch before are judged and kept.

    Args:
        steps: one; more are refused.
        step_size: α, pixel values; ``None`` for eps (the paper's).
        k: width of the noise, in radii (paper: 2).
        warm_up: without meaning here: all epochs are of that kind.
    """

    steps: int = 1
    warm_up: float = 0.0
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
        return uniform(shape, self.k * self.eps, generator)

    def attacked(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        noise: Tensor,
        fixed: Sequence[nn.Parameter] = (),
    ) -> Tensor:
        """The single step."""
        with held_fixed(fixed):
            return single_step(model, images, labels, noise, self.step)
