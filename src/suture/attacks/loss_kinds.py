"""What a loss looks at, the mean of a model's draws or every draw, and how it is differentiated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from numpy.typing import NDArray
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""Values ``(k,)`` of logits ``(k, classes)`` and goals ``(k,)``."""


@dataclass(frozen=True, eq=False)
class OfDraws:
    """A loss ``(d, k)`` of the logits of every draw, ``(d, k, classes)``, not of their mean.

    Args:
        function: treats every row of logits alike.
    """

    function: Loss

    def __call__(self, draws: Tensor, goals: Tensor) -> Tensor:
        """The loss of each draw and image."""
        flat = self.function(draws.flatten(0, 1), goals.repeat(len(draws)))
        return flat.reshape(draws.shape[:2])


@dataclass(frozen=True, eq=False)
class Alike:
    """A loss that treats every row of logits alike: all draws can be handed over at once."""

    function: Loss

    def __call__(self, logits: Tensor, goals: Tensor) -> Tensor:
        """The loss of each row."""
        return self.function(logits, goals)


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """A loss whose gradient with respect to the logits is compiled: no graph of small operations.

    Args:
        plain: the loss itself.
        slopes: ``slopes(draws, goals, odds)``, from logits ``(d, k, classes)``: the loss
            ``(d, k)``, and the gradient of its mean with the weights ``odds`` over the draws.
    """

    plain: Loss
    slopes: Callable[[Tensor, Tensor, NDArray], tuple[Tensor, Tensor]]

    def __call__(self, logits: Tensor, goals: Tensor) -> Tensor:
        """The loss of each row."""
        return self.plain(logits, goals)
