"""Gradients through what has none (backward pass differentiable approximation)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from suture.types import is_randomised


class BPDA(nn.Module):
    """A classifier behind a preprocessing step that gradients cannot pass or that hides them.

    The forward pass is ``model(forward(x))``, to the bit; the gradient is that of
    ``model(backward(x))`` with the model's derivative taken at ``forward(x)`` (Athalye, Carlini &
    Wagner 2018, arXiv:1802.00420, section 4.1).

    Args:
        model: classifier, images to logits.
        forward: the step as it is: a quantiser, JPEG, a denoiser.
        backward: a differentiable stand-in; ``None`` for the identity, right for every step
            that returns nearly its input.

    Example:
        ``attack(BPDA(model, forward=lambda x: (x * 7).round() / 7), batch)``
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        forward: Callable[[Tensor], Tensor],
        backward: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.model, self._true, self._smooth = model, forward, backward
        self.randomised = is_randomised(model)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Logits of ``model(forward(images))``."""
        with torch.no_grad():
            seen = self._true(images)
        if torch.is_grad_enabled() and images.requires_grad:
            seen = _Swap.apply(seen, images if self._smooth is None else self._smooth(images))
        return self.model(seen) if noise is None else self.model(seen, noise=noise)


class _Swap(torch.autograd.Function):
    """The first argument's value with the second one's gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, stand_in: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        return None, gradient
