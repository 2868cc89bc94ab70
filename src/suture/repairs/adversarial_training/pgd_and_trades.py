"""Adversarial training whose images are made anew on the model of every step: PGD and TRADES."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from suture.repairs.adversarial_training.inner import ascend, held_fixed, uniform
from suture.repairs.adversarial_training.method import AdversarialTraining
from suture.repairs.base import REPAIRS

_SMALL = 1e-3
"""TRADES starts from the image plus so much Gaussian noise (its authors' code)."""


@REPAIRS.add("pgd-training")
@dataclass(frozen=True, kw_only=True)
class PGDTraining(AdversarialTraining):
    """Adversarial training (Madry et al. 2018, arXiv:1706.06083): ``min E max CE(f(x'), y)``.

    The inner maximum is sought by PGD from a random start in the ball.
    """

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Uniform in the ball."""
        return uniform(shape, self.eps, generator)

    def attacked(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        noise: Tensor,
        fixed: Sequence[nn.Parameter] = (),
    ) -> Tensor:
        """PGD on the cross entropy."""
        with held_fixed(fixed):
            return ascend(
                images,
                noise,
                lambda x: cross_entropy(model(x), labels),
                eps=self.eps,
                step=self.step,
                steps=self.steps,
            )


@REPAIRS.add("trades")
@dataclass(frozen=True, kw_only=True)
class TRADES(AdversarialTraining):
    """TRADES (Zhang et al. 2019, arXiv:1901.08573): ``CE(f(x), y) + β·max KL(f(x) ‖ f(x'))``.

    The inner maximisation and the schedule are by default those of ``PGDTraining``; the authors'
    inner settings are ``TRADES.cifar10()`` and ``TRADES.mnist()``.

    Args:
        beta: weight of the second term.
    """

    beta: float = 6.0
    warm_up: float = 0.0
    reach: float = 1.0

    @classmethod
    def cifar10(cls, **fields: Any) -> TRADES:
        """The authors' setting for CIFAR-10: β = 6, eps = 0.031, 10 × 0.007, crops, flips."""
        given = {"beta": 6.0, "eps": 0.031, "steps": 10, "step_size": 0.007}
        return cls(**(given | {"augment": "flip-crop"} | fields))

    @classmethod
    def mnist(cls, **fields: Any) -> TRADES:
        """The authors' setting for MNIST: β = 1, eps = 0.3, 40 × 0.01, images as they are."""
        given = {"beta": 1.0, "eps": 0.3, "steps": 40, "step_size": 0.01}
        return cls(**(given | {"augment": "none"} | fields))

    def _checks(self) -> dict[str, bool]:
        return super()._checks() | {"beta >= 0": self.beta >= 0}

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """A little Gaussian noise: at the image itself the KL divergence has no gradient."""
        return _SMALL * torch.randn(shape, generator=generator)

    def attacked(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        noise: Tensor,
        fixed: Sequence[nn.Parameter] = (),
    ) -> Tensor:
        """PGD on the divergence; the clean logits are constants."""
        with torch.no_grad():
            clean = log_softmax(model(images), 1)
        with held_fixed(fixed):
            return ascend(
                images,
                noise,
                lambda x: _divergence(model(x), clean),
                eps=self.eps,
                step=self.step,
                steps=self.steps,
            )

    def loss(self, model: nn.Module, images: Tensor, attacked: Tensor, labels: Tensor) -> Tensor:
        """Both terms."""
        logits = model(images)
        first = cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        second = _divergence(model(attacked), log_softmax(logits, 1))
        return first + self.beta * second / len(images)


def _divergence(logits: Tensor, clean: Tensor) -> Tensor:
    """``Σ KL(softmax(clean) ‖ softmax(logits))``; ``clean`` are log-probabilities already."""
    return kl_div(log_softmax(logits, 1), clean, reduction="sum", log_target=True)
