"""The defensive perturbation: from a free vector to an image that may be shown.

``δ_D(z)`` lies in the ball of radius ε_D whatever z is (A5, Eq. 4, 5); the sum is clipped to
[0, 1]; and what is stored has 8 bits, rounded so that it stays in the ball.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from suture.errors import ArgumentError

LEVELS = 255
_SCALES = 16


@dataclass(frozen=True)
class Defence:
    """The set of allowed defensive perturbations.

    Args:
        eps: ε_D, pixel values in [0, 1].
        norm: "linf" as in the paper, or "l2".
        rounded: round robustified images to 8 bits.

    Raises:
        ArgumentError: a negative or infinite radius, another norm.
    """

    eps: float = 0.3
    norm: Literal["linf", "l2"] = "linf"
    rounded: bool = True

    def __post_init__(self) -> None:
        most = 1.0 if self.norm == "linf" else float("inf")
        if self.norm not in ("linf", "l2") or not 0 <= self.eps <= most or self.eps == most > 1:
            raise ArgumentError(
                expected='a norm "linf" or "l2" with a radius eps from 0 on, at most 1 in L∞',
                got=repr(self),
                remedy=f"Grey levels are divided by 255: {self.eps:g}/255 = {self.eps / 255:.4g}.",
            )

    def perturbation(self, z: Tensor) -> Tensor:
        """``δ_D(z)``: L∞ ``2 ε_D (σ(z) - 1/2)`` (Eq. 5); L2 ``ε_D z / sqrt(1 + |z|²)``.

        Args:
            z: ``(n, ...)``, any reals.
        """
        if self.norm == "linf":
            return self.eps * (2 * torch.sigmoid(z) - 1)
        return self.eps * z / _wide((1 + z.flatten(1).square().sum(1)).sqrt(), z)

    def apply(self, images: Tensor, z: Tensor) -> Tensor:
        """``x + δ_D(z)`` clipped to [0, 1], not rounded."""
        return (images + self.perturbation(z)).clamp(0, 1)

    def reached(self, images: Tensor, z: Tensor) -> Tensor:
        """``apply`` for training: the same values, and gradients that lead back into [0, 1].

        A pixel of 0 or 1 that is pushed outwards once has no gradient through a plain clip and
        never comes back, whatever the next images ask of it: with random acquisitions, in time,
        every black and white pixel stops.
        """
        clipped: Tensor = _Clip.apply(images + self.perturbation(z))  # type: ignore[no-untyped-call]
        return clipped

    def stored(self, images: Tensor, robustified: Tensor) -> Tensor:
        """What is kept or sent: rounded to 8 bits, within ε_D of the image and within [0, 1].

        Gradients pass as if nothing had been rounded (straight through).

        Args:
            images: ``(n, ...)``, the originals.
            robustified: near them, in [0, 1].
        """
        if not self.rounded:
            return robustified
        kept = (
            self._linf(images, robustified)
            if self.norm == "linf"
            else self._l2(images, robustified)
        )
        return robustified + (kept - robustified).detach()

    def _linf(self, images: Tensor, robustified: Tensor) -> Tensor:
        # A hair of tolerance: 0.1 + 0.3 in float32 must not lose a grey level of 0.4.
        low = ((images - self.eps) * LEVELS - 1e-3).ceil()
        high = ((images + self.eps) * LEVELS + 1e-3).floor()
        grey = torch.minimum(torch.maximum((robustified * LEVELS).round(), low), high)
        # A ball between two grey levels holds none: there the image itself stays.
        grey = torch.where(low > high, images * LEVELS, grey)
        return grey.clamp(0, LEVELS) / LEVELS

    def _l2(self, images: Tensor, robustified: Tensor) -> Tensor:
        """The largest of 17 shares of the perturbation whose rounded image is in the ball."""
        best, moved = images, robustified - images
        for step in range(_SCALES + 1):
            kept = ((images + step / _SCALES * moved) * LEVELS).round().clamp(0, LEVELS) / LEVELS
            inside = (kept - images).flatten(1).norm(dim=1) <= self.eps + 1e-6
            best = torch.where(_wide(inside, kept), kept, best)
        return best


class _Clip(torch.autograd.Function):
    """Clip to [0, 1]; from outside, gradients pass whose descent leads inwards."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor) -> Tensor:
        ctx.save_for_backward(raw)
        return raw.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (raw,), (slope,) = ctx.saved_tensors, slopes
        outwards = ((raw < 0) & (slope > 0)) | ((raw > 1) & (slope < 0))
        return slope.masked_fill(outwards, 0.0)


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """``(n,)`` so that it broadcasts against ``(n, ...)``."""
    return values.view(-1, *(1,) * (like.ndim - 1))
