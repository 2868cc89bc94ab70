"""Adversarial training whose images are made anew on the model of every step: PGD and TRADES."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from suture.attacks import PGD
from suture.repairs.base import REPAIRS, Context
from suture.repairs.baselines.adversarial import gradients
from suture.repairs.baselines.tuning import Tuning
from suture.repairs.dare.search import Fit, orders
from suture.rng import Stream
from suture.types import Batch, check_linf

InnerLoss = Callable[[Tensor], Tensor]
_SMALL = 1e-3
"""TRADES starts from the image plus so much Gaussian noise (its authors' code)."""


@dataclass(frozen=True, kw_only=True)
class _AdversarialTraining(Tuning):
    """Training on images that are attacked as the model stands, in the L∞ ball.

    Args:
        eps: radius, pixel values in [0, 1].
        steps: of the inner maximisation.
        step_size: of it; ``None`` for ``2.5·eps/steps``.
        judged: held-out images that PGD, with these steps, attacks after every epoch: the score
            is what is left.
    """

    eps: float = 8 / 255
    steps: int = 10
    step_size: float | None = None
    judged: int = 256

    def __post_init__(self) -> None:
        check_linf(self.eps)
        super().__post_init__()

    def _checks(self) -> dict[str, bool]:
        positive = self.step_size is None or self.step_size > 0
        return super()._checks() | {
            "eps in (0, 1]": 0 < self.eps <= 1,
            "steps >= 1": self.steps >= 1,
            "step_size > 0, or None": positive,
            "judged >= 1": self.judged >= 1,
        }

    @abstractmethod
    def batch_loss(self, model: nn.Module, images: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        """Mean loss of a batch; the model is left in train mode."""

    @abstractmethod
    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Where the inner maximisation starts, as an offset from the images."""

    def fit(
        self,
        model: nn.Module,
        looked: Batch,
        held: Batch,
        context: Context,
    ) -> tuple[Fit | None, dict[str, Any]]:
        """All images; every step attacks its own."""
        judge = PGD(eps=self.eps, steps=self.steps, step_size=self.step_size)
        key = context.stream.child("judge")
        return OnlineFit(self, looked, held[: self.judged], judge, key, context.batch_size), {}

    def inner(self, images: Tensor, start: Tensor, loss: InnerLoss) -> Tensor:
        """Ascend a loss by signed gradient steps inside the ball and [0, 1]."""
        step = self.step_size or 2.5 * self.eps / self.steps
        here = (images + start).clamp(0, 1)
        for _ in range(self.steps):
            here = here.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(loss(here), here)
            here = here.detach() + step * gradient.sign()
            here = torch.maximum(torch.minimum(here, images + self.eps), images - self.eps)
            here = here.clamp(0, 1)
        return here.detach()


@dataclass(frozen=True, eq=False)
class OnlineFit:
    """A method's own loss over clean images.

    Attributes:
        method: makes a batch's loss.
        batch: clean images to train on.
        held: clean held-out images that ``judge`` attacks.
        stream: of the judge.
    """

    method: _AdversarialTraining
    batch: Batch
    held: Batch
    judge: PGD
    stream: Stream
    batch_size: int

    def steps(self, model: nn.Module, stream: Stream, size: int) -> Iterator[dict[str, Tensor]]:
        """One pass; every step's images are attacked on the model as it stands."""
        for index, chosen in enumerate(orders(len(self.batch), stream, size)):
            images, labels = self.batch.images[chosen], self.batch.labels[chosen]
            generator = stream.child("start").child(index).generator()
            noise = self.method.noise(tuple(images.shape), generator).to(images)
            yield gradients(self.method.batch_loss(model, images, labels, noise), model)

    def score(self, model: nn.Module) -> float:
        """Accuracy under PGD made on this very model."""
        model.eval()
        result = self.judge(model, self.held, generator=self.stream, batch_size=self.batch_size)
        return float(result.robust.float().mean())


@REPAIRS.add("pgd-training")
@dataclass(frozen=True, kw_only=True)
class PGDTraining(_AdversarialTraining):
    """Adversarial training (Madry et al. 2018, arXiv:1706.06083): ``min E max CE(f(x'), y)``.

    The inner maximum is sought by PGD from a random start in the ball.
    """

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Uniform in the ball."""
        return (torch.rand(shape, generator=generator) * 2 - 1) * self.eps

    def batch_loss(self, model: nn.Module, images: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        """Cross entropy of the attacked images."""
        model.eval()
        attacked = self.inner(images, noise, lambda x: cross_entropy(model(x), labels))
        model.train()
        return cross_entropy(model(attacked), labels)


@REPAIRS.add("trades")
@dataclass(frozen=True, kw_only=True)
class TRADES(_AdversarialTraining):
    """TRADES (Zhang et al. 2019, arXiv:1901.08573): ``CE(f(x), y) + β·max KL(f(x) ‖ f(x'))``.

    The defaults are its authors' for CIFAR-10; for MNIST they have β = 1, eps = 0.3, 40 steps of
    0.01 (``TRADES.mnist()``).

    Args:
        beta: weight of the second term.
    """

    beta: float = 6.0
    eps: float = 0.031
    steps: int = 10
    step_size: float | None = 0.007

    @classmethod
    def mnist(cls, **fields: Any) -> TRADES:
        """The authors' setting for MNIST."""
        return cls(**({"beta": 1.0, "eps": 0.3, "steps": 40, "step_size": 0.01} | fields))

    def _checks(self) -> dict[str, bool]:
        return super()._checks() | {"beta >= 0": self.beta >= 0}

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """A little Gaussian noise: at the image itself the KL divergence has no gradient."""
        return _SMALL * torch.randn(shape, generator=generator)

    def batch_loss(self, model: nn.Module, images: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        """Both terms; the clean logits of the inner maximum are constants."""
        model.eval()
        with torch.no_grad():
            clean = log_softmax(model(images), 1)
        attacked = self.inner(images, noise, lambda x: _divergence(model(x), clean))
        model.train()
        logits = model(images)
        second = _divergence(model(attacked), log_softmax(logits, 1))
        return cross_entropy(logits, labels) + self.beta * second / len(images)


def _divergence(logits: Tensor, clean: Tensor) -> Tensor:
    """``Σ KL(softmax(clean) ‖ softmax(logits))``; ``clean`` are log-probabilities already."""
    return kl_div(log_softmax(logits, 1), clean, reduction="sum", log_target=True)
