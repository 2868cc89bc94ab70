"""Activations, and the two linear bounds between which each runs over an interval.

``low·x + low_shift <= f(x) <= up·x + up_shift`` for all x in ``[l, u]``. This linear
relaxation is all that CROWN needs to know. NaN bounds relax to NaN, which ends as "unknown".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from suture.bounds import kernels
from suture.bounds.affine import Boxes
from suture.bounds.network import Op


@dataclass(frozen=True, eq=False)
class Relaxation:
    """A lower and an upper linear bound of every neuron.

    Slopes ``(n, *shape)``, shifts too, or ``None`` where all are zero.
    """

    low: Tensor
    up: Tensor
    low_shift: Tensor | None
    up_shift: Tensor | None


def _known(part: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """A part of a relaxation; NaN without bounds, or with a width that overflows: nothing may be
    proved."""
    return torch.where(upper - lower < float("inf"), part, float("nan"))


@dataclass(frozen=True)
class Relu(Op):
    """ReLU, or leaky ReLU with ``slope`` on the negative side (0 <= slope < 1)."""

    relaxed: ClassVar[bool] = True

    slope: float = 0.0

    def forward(self, *values: Tensor) -> Tensor:
        """``max(x, slope·x)``."""
        return F.relu(values[0]) if self.slope == 0 else F.leaky_relu(values[0], self.slope)

    def interval(self, lower: Boxes, upper: Boxes) -> tuple[Tensor, Tensor]:
        """Both ends: the function is monotone."""
        return self.forward(lower[0]), self.forward(upper[0])

    def stable(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Neurons that are linear on their interval: tighter bounds would change nothing."""
        return (lower >= 0) | (upper <= 0)

    def relaxation(self, lower: Tensor, upper: Tensor, alpha: Tensor | None = None) -> Relaxation:
        """DeepPoly (Singh et al. 2019): chord above; below, the slope that leaves less area.

        Args:
            alpha: lower slope as a share of the way from ``slope`` to 1, in place of that choice;
                ``(n, *shape)``, or ``(n, rows, *shape)`` for slopes of each row.
        """
        fits = lower.ndim > 1 and lower.shape == upper.shape
        if alpha is None and fits and kernels.plain(lower, upper):
            low, up, shift = kernels.relu_relaxation(lower, upper, self.slope)
            return Relaxation(low, up, None, shift)
        if alpha is not None and alpha.ndim > lower.ndim:
            lower, upper = lower[:, None], upper[:, None]
        active, dead = lower >= 0, upper <= 0
        unstable = ~(active | dead)
        # Stable neurons do not use the chord; its gradient must not divide by zero for them.
        chord = (upper - self.slope * lower) / torch.where(unstable, upper - lower, 1.0)
        one, flat = torch.ones_like(lower), torch.full_like(lower, self.slope)
        up = torch.where(active, one, torch.where(dead, flat, chord))
        free = (upper > -lower).to(lower.dtype) if alpha is None else alpha
        low = torch.where(active, one, torch.where(dead, flat, flat + (1 - self.slope) * free))
        shift = torch.where(unstable, (self.slope - chord) * lower, torch.zeros_like(lower))
        return Relaxation(low, _known(up, lower, upper), None, _known(shift, lower, upper))

    def start(self, lower: Tensor, upper: Tensor) -> Tensor:
        """The ``alpha`` that ``relaxation`` takes without one: ``(n, *shape)``."""
        return (upper > -lower).to(lower.dtype)

    def to(self, dtype: torch.dtype) -> Relu:
        """Itself."""
        return self


@dataclass(frozen=True)
class SShaped(Op):
    """Sigmoid or tanh: convex left of zero, concave right of it, odd about its centre."""

    relaxed: ClassVar[bool] = True

    name: str

    def forward(self, *values: Tensor) -> Tensor:
        """The function itself."""
        return torch.sigmoid(values[0]) if self.name == "sigmoid" else torch.tanh(values[0])

    def interval(self, lower: Boxes, upper: Boxes) -> tuple[Tensor, Tensor]:
        """Both ends: the function is monotone."""
        return self.forward(lower[0]), self.forward(upper[0])

    def stable(self, lower: Tensor, upper: Tensor) -> Tensor:
        """None but constants: every narrower interval gives a tighter relaxation."""
        return lower == upper

    def _slope(self, x: Tensor) -> Tensor:
        value = self.forward(x)
        return value * (1 - value) if self.name == "sigmoid" else 1 - value * value

    def relaxation(self, lower: Tensor, upper: Tensor, alpha: Tensor | None = None) -> Relaxation:
        """Chord on the side where the function bends away from it, tangent on the other
        (Zhang et al. 2018, CROWN, Table 2).

        Args:
            alpha: ``(2, n, *shape)`` or ``(2, n, rows, *shape)``: where the upper and the lower
                linear bound touch, as a share of the way over all points whose tangent is valid.
        """
        of_up, of_low = (None, None) if alpha is None else alpha
        up, up_shift = self._upper(lower, upper, of_up)
        # f(-x) = c - f(x): the lower bound is the mirrored upper one of the mirrored interval.
        down, shift = self._upper(-upper, -lower, of_low)
        centre = 1.0 if self.name == "sigmoid" else 0.0
        below, above = centre - shift, up_shift
        if alpha is not None and alpha.ndim > lower.ndim + 1:
            lower, upper = lower[:, None], upper[:, None]
        return Relaxation(down, up, _known(below, lower, upper), _known(above, lower, upper))

    def start(self, lower: Tensor, upper: Tensor) -> Tensor:
        """The ``alpha`` that ``relaxation`` takes without one: ``(2, n, *shape)``."""
        return 0.5 * torch.stack([lower >= 0, upper <= 0]).to(lower.dtype)

    def _upper(self, lower: Tensor, upper: Tensor, share: Tensor | None) -> tuple[Tensor, Tensor]:
        """Slope and shift of a linear bound above the function on ``[lower, upper]``."""
        f_low, f_up = self.forward(lower), self.forward(upper)
        width = upper - lower
        # Where the chord is only noise: the steepest slope lies above, seen from the left end.
        chord = torch.where(
            width > 1e-6, (f_up - f_low) / width.clamp(min=1e-6), self._steepest(lower, upper)
        )
        touch, before = self._touch(lower, upper)
        # The chord lies above while the function is still convex, or not yet past the tangent.
        use_chord = (upper <= 0) | (before >= upper)
        if share is not None:
            first = torch.where(lower >= 0, lower, touch)
            room = (upper - first).clamp(min=0)
            if share.ndim > lower.ndim:
                first, room, chord, use_chord, lower = (
                    t[:, None] for t in (first, room, chord, use_chord, lower)
                )
            # Every tangent further right, up to the end, lies above too.
            touch = first + share * room
        slope = torch.where(use_chord, chord, self._slope(touch))
        through = torch.where(use_chord, lower, touch)
        shift = self.forward(through) - slope * through
        return slope, shift

    def _steepest(self, lower: Tensor, upper: Tensor) -> Tensor:
        """The largest slope on the interval."""
        inside = (lower <= 0) & (upper >= 0)
        at_zero = self._slope(torch.zeros_like(lower))
        return torch.where(inside, at_zero, torch.maximum(self._slope(lower), self._slope(upper)))

    def _touch(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Where a tangent touches so that it lies above the whole interval, and a point before
        which none does.

        Concave intervals: the middle. Mixed ones: the two ends of a bisection for the smallest
        point whose tangent is not below the function at ``lower``.
        """
        with torch.no_grad():
            low, f_low = lower.detach(), self.forward(lower.detach())
            unsafe, safe = torch.zeros_like(low), torch.maximum(-2 * low, torch.ones_like(low))
            for _ in range(40):
                above = self.forward(safe) + self._slope(safe) * (low - safe) >= f_low
                safe = torch.where(above, safe, 2 * safe)
            for _ in range(30):
                middle = (unsafe + safe) / 2
                above = self.forward(middle) + self._slope(middle) * (low - middle) >= f_low
                safe, unsafe = torch.where(above, middle, safe), torch.where(above, unsafe, middle)
        concave = lower >= 0
        touch = torch.where(concave, (lower + upper) / 2, torch.maximum(safe, lower))
        return touch, torch.where(concave, torch.full_like(unsafe, float("-inf")), unsafe)

    def to(self, dtype: torch.dtype) -> SShaped:
        """Itself."""
        return self


Activation = Relu | SShaped


def bound_backward_dense(rows: Tensor, relaxation: Relaxation) -> tuple[Tensor, Tensor]:
    """Coefficients of a lower bound behind an activation become coefficients before it.

    Positive ones take the lower linear bound, negative ones the upper one.

    Args:
        rows: ``(n or 1, rows, *shape)``.
        relaxation: of shape ``(n, *shape)``, or with slopes of each row ``(n, rows, *shape)``.
    """
    if relaxation.low_shift is None and relaxation.up_shift is not None:
        given = rows, relaxation.low, relaxation.up, relaxation.up_shift
        if kernels.bends(*given):
            return kernels.bend(*given)
    return _bound_backward(rows, relaxation, lambda t: t if t.ndim == rows.ndim else t[:, None], 2)


def bound_backward_windows(
    value: Tensor, relaxation: Relaxation, gather: Callable[[Tensor], Tensor]
) -> Any:
    """``bound_backward_dense`` for windows ``(n or 1, rows, places, c, kh, kw)``."""
    return _bound_backward(value, relaxation, gather, 3)


def _bound_backward(
    rows: Tensor, relaxation: Relaxation, view: Callable[[Tensor], Tensor], axes: int
) -> tuple[Tensor, Tensor]:
    negative = rows.clamp(max=0)
    low = view(relaxation.low)
    out = torch.addcmul(rows * low, negative, view(relaxation.up) - low)
    add = torch.zeros((), dtype=rows.dtype, device=rows.device)
    if relaxation.up_shift is not None:
        add = add + (negative * view(relaxation.up_shift)).flatten(axes).sum(-1)
    if relaxation.low_shift is not None:
        add = add + ((rows - negative) * view(relaxation.low_shift)).flatten(axes).sum(-1)
    return out, add
