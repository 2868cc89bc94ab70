"""What an attacker may do, and the regions that bounds and certificates speak of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from suture.errors import ArgumentError

Norm = Literal["linf", "l2", "l1", "l0"]
"""In which an attack's radius is measured; l0 counts pixels."""
Knowledge = Literal["black-box", "white-box"]
"""What an attacker sees of a model: scores, or gradients too."""
NORMS: tuple[Norm, ...] = ("linf", "l2", "l1", "l0")
"""All of them."""


def check_linf(eps: float) -> None:
    """Raise ``ArgumentError`` for an L∞ radius above 1, saying which fraction was meant."""
    if 1 < eps < float("inf"):
        raise ArgumentError(
            expected="an L∞ radius of at most 1, since pixel values lie in [0, 1]",
            got=f"eps={eps!r}",
            remedy=f"Grey levels are divided by 255: {eps:g}/255 = {eps / 255:.4g}.",
        )


@dataclass(frozen=True, eq=False)
class Box:
    """An axis-aligned region ``lower <= x <= upper``; both tensors have the same shape."""

    lower: Tensor
    upper: Tensor

    def __post_init__(self) -> None:
        if self.lower.shape != self.upper.shape:
            raise ArgumentError(
                expected="lower and upper of one shape",
                got=f"{tuple(self.lower.shape)} and {tuple(self.upper.shape)}",
                remedy="Broadcast one to the other first.",
            )
        if not bool((self.lower <= self.upper).all()):
            raise ArgumentError(
                expected="lower <= upper everywhere, without NaN",
                got="at least one empty or NaN interval",
                remedy="Swap the bounds, or check the radius.",
            )

    @staticmethod
    def around(images: Tensor, eps: float) -> Box:
        """The L∞ ball of radius ``eps`` around images, clipped to [0, 1]."""
        check_linf(eps)
        return Box((images - eps).clamp(0, 1), (images + eps).clamp(0, 1))


@dataclass(frozen=True)
class ThreatModel:
    """What the attacker may do.

    Args:
        norm: "linf", "l2", "l1", or "l0" (number of pixels).
        eps: radius in that norm, pixel values in [0, 1]; ``inf`` for unbounded.
        queries: forwards per image the attacker may spend, ``None`` for no limit.
        knowledge: "black-box" (scores only) or "white-box" (gradients).
        targeted: whether a given class must be reached.
    """

    norm: Norm = "linf"
    eps: float = 8 / 255
    queries: int | None = None
    knowledge: Knowledge = "white-box"
    targeted: bool = False

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ArgumentError(
                expected=f"a norm out of {', '.join(NORMS)}",
                got=repr(self.norm),
                remedy='For example norm="linf".',
            )
        if not self.eps >= 0:
            raise ArgumentError(
                expected="a radius eps >= 0",
                got=f"eps={self.eps!r}",
                remedy="Radii are in pixel units of [0, 1]: 8 grey levels are 8/255.",
            )
        if self.norm == "linf":
            check_linf(self.eps)
