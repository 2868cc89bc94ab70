"""The inner maximisation: images that raise a loss inside the L∞ ball."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

InnerLoss = Callable[[Tensor], Tensor]


def ascend(
    images: Tensor, start: Tensor, loss: InnerLoss, *, eps: float, step: float, steps: int
) -> Tensor:
    """Signed gradient steps, ``x ← Π(x + step · sign ∇ loss(x))``; ``(n, c, h, w)``, detached.

    Π projects onto the ball around the images and onto [0, 1]. Only the gradient with respect to
    the images is computed.

    Args:
        images: clean ones, in [0, 1].
        start: offset of the first point.
        loss: of images; a scalar.
        eps, step: radius and step, pixel values.
    """
    low, high = (images - eps).clamp_(min=0), (images + eps).clamp_(max=1)
    here = (images + start).clamp_(low, high)
    for _ in range(steps):
        here.requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(here), here)
        here = here.detach().add_(gradient.sign_(), alpha=step).clamp_(low, high)
    return here


def uniform(shape: tuple[int, ...], width: float, generator: torch.Generator) -> Tensor:
    """Noise in ±width."""
    return torch.rand(shape, generator=generator).mul_(2 * width).sub_(width)


def single_step(
    model: nn.Module, images: Tensor, labels: Tensor, noise: Tensor, step: float
) -> Tensor:
    """``x + η + step · sign ∇ CE(f(x + η), y)``, not clipped at all; detached.

    N-FGSM's inner step (de Jorge et al. 2022, Algorithm 1). Clipping to [0, 1] would take half of
    the noise from black and white pixels.
    """
    here = (images + noise).requires_grad_(True)
    (gradient,) = torch.autograd.grad(cross_entropy(model(here), labels), here)
    return here.detach().add_(gradient.sign_(), alpha=step)


@contextmanager
def held_fixed(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """No gradients for these while images are sought: nothing is kept for them."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
