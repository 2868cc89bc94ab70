"""Optimisers of many patches at once; those that are finished stay as they are."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

_BETA1, _BETA2, _TINY = 0.9, 0.999, 1e-8


@dataclass
class Adam:
    """Adam (Kingma & Ba 2015) on stacked parameters; patches that are finished stay as they are."""

    rate: float
    moments: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    steps: int = 0

    def step(self, parameters: list[Tensor], active: Tensor) -> None:
        """One step of the active patches ``(p,)``, from the gradients in ``.grad``."""
        if not self.moments:
            self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
        self.steps += 1
        first, second = 1 - _BETA1**self.steps, 1 - _BETA2**self.steps
        with torch.no_grad():
            for parameter, (mean, square) in zip(parameters, self.moments, strict=True):
                gradient = _clean(parameter.grad)
                mean.lerp_(gradient, 1 - _BETA1)
                square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
                change = mean / first / ((square / second).sqrt() + _TINY)
                parameter.sub_(self.rate * change * _like(active, parameter))


@dataclass
class Descent:
    """Plain gradient descent, as the paper writes it (Algorithm 2, line 5)."""

    rate: float

    def step(self, parameters: list[Tensor], active: Tensor) -> None:
        """One step of the active patches ``(p,)``."""
        with torch.no_grad():
            for parameter in parameters:
                gradient = _clean(parameter.grad)
                parameter.sub_(self.rate * gradient * _like(active, parameter))


def _clean(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return torch.nan_to_num(gradient, 0.0, 0.0, 0.0)


def _like(active: Tensor, parameter: Tensor) -> Tensor:
    return active.to(parameter.dtype).view(-1, *(1,) * (parameter.ndim - 1))
