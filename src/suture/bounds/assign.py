"""One value of a vector becomes an operation of others: an instruction of a repair program.

Sums, differences, products with a constant are affine, and lose nothing. Products of two values
are bounded by McCormick's planes (McCormick 1976), quotients by those of the dividend and the
bounded reciprocal where the divisor's sign is proved, maxima and minima as ReLUs of a difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from suture.bounds.affine import Boxes
from suture.bounds.network import Op

Name = Literal["copy", "add", "sub", "mul", "div", "max", "min"]
Operand = int | float
"""A value of the vector by its position, or a constant as a float."""


@dataclass(frozen=True, eq=False)
class Planes:
    """A linear bound ``a·left + b·right + old·target + shift``; each ``(n,)``."""

    a: Tensor
    b: Tensor
    old: Tensor
    shift: Tensor


@dataclass(frozen=True, eq=False)
class Assign(Op):
    """``x[target] = op(left, right)`` on vectors ``(n, m)``; everything else stays.

    Attributes:
        target: position that is written.
        name: the operation. "copy" takes ``left``; where "div" divides by 0 nothing is written.
        left, right: what it reads.
    """

    target: int
    name: Name
    left: Operand
    right: Operand = 0.0

    def forward(self, *values: Tensor) -> Tensor:
        """``(n, m)`` to the same shape."""
        (x,) = values
        written = x.clone()
        written[:, self.target] = self._value(x)
        return written

    def _value(self, x: Tensor) -> Tensor:
        left, right = (_of(operand, x) for operand in (self.left, self.right))
        if self.name == "div":
            divisor = torch.where(right == 0, torch.ones_like(right), right)
            return torch.where(right == 0, x[:, self.target], left / divisor)
        if self.name == "copy":
            return left
        return _SIMPLE[self.name](left, right)

    def interval(self, lower: Boxes, upper: Boxes) -> tuple[Tensor, Tensor]:
        """The written value's interval from those of what is read; NaN where nothing is known."""
        ends = self._ends(lower[0], upper[0])
        below, above = lower[0].clone(), upper[0].clone()
        below[:, self.target], above[:, self.target] = self._span(*ends, lower[0], upper[0])
        return below, above

    def _ends(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Lower and upper bounds of the left operand, then of the right one: ``(n,)`` each."""
        left = _of(self.left, lower), _of(self.left, upper)
        return *left, _of(self.right, lower), _of(self.right, upper)

    def _span(
        self, la: Tensor, ua: Tensor, lb: Tensor, ub: Tensor, lower: Tensor, upper: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.name == "copy":
            return la, ua
        if self.name == "add":
            return la + lb, ua + ub
        if self.name == "sub":
            return la - ub, ua - lb
        if self.name in ("max", "min"):
            return _SIMPLE[self.name](la, lb), _SIMPLE[self.name](ua, ub)
        if self.name == "mul":
            return _product(la, ua, lb, ub)
        known, zero = _signed(lb, ub), _nothing(lb, ub)
        below, above = _product(la, ua, 1 / ub, 1 / lb)
        old = lower[:, self.target], upper[:, self.target]
        unknown = torch.full_like(la, float("nan"))
        return (
            torch.where(zero, old[0], torch.where(known, below, unknown)),
            torch.where(zero, old[1], torch.where(known, above, unknown)),
        )

    def _back(self, rows: Tensor, low: Planes, up: Planes) -> tuple[Tensor, Tensor]:
        """Rows of a lower bound behind the assignment become rows before it."""
        own = rows[:, :, self.target]
        positive, negative = own.clamp(min=0), own.clamp(max=0)

        def weighed(name: str) -> Tensor:
            below, above = getattr(low, name)[:, None], getattr(up, name)[:, None]
            return positive * below + negative * above

        old, a, b, add = (weighed(name) for name in ("old", "a", "b", "shift"))
        out = rows.expand(len(old), -1, -1).clone()
        out[:, :, self.target] = old
        for operand, part in ((self.left, a), (self.right, b)):
            if isinstance(operand, int):
                out[:, :, operand] += part
            else:
                add = add + part * operand
        return out, add

    def to(self, dtype: torch.dtype) -> Assign:
        """Itself."""
        return self


@dataclass(frozen=True, eq=False)
class AffineAssign(Assign):
    """An assignment that is affine: its bounds lose nothing."""

    affine: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    def bound_backward(self, rows: Tensor) -> tuple[list[Tensor], Tensor]:
        """Coefficients of the target go to what it is made of."""
        one = rows.new_ones(1)
        a, b = {"add": (1.0, 1.0), "sub": (1.0, -1.0)}.get(self.name, (1.0, 0.0))
        if self.name == "mul":
            a, b = _factors(self.left, self.right)
        elif self.name == "div":
            a = 1 / float(self.right) if self.right else 0.0
        skipped = float(self.name == "div" and self.right == 0)
        exact = Planes(a * one, b * one, skipped * one, 0 * one)
        out, add = self._back(rows, exact, exact)
        return [out], add


@dataclass(frozen=True, eq=False)
class BentAssign(Assign):
    """An assignment that is not affine; its planes need bounds of what it reads."""

    bounded: ClassVar[bool] = True

    def matters(self, lower: Tensor, upper: Tensor) -> Tensor:
        """The values that it reads: tighter bounds of others would change nothing."""
        read = torch.zeros_like(lower, dtype=torch.bool)
        for operand in (self.left, self.right):
            if isinstance(operand, int):
                read[:, operand] = True
        return read

    def bound_backward(self, rows: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Positive coefficients take the lower plane, negative ones the upper one.

        Args:
            rows: ``(n or 1, rows, m)`` coefficients of a lower bound.
            lower, upper: ``(n, m)`` bounds of the input.
        """
        ends = self._ends(lower, upper)
        low, up = _PLANES[self.name](*ends)
        read = self.matters(lower, upper)[0]
        width = (upper - lower)[:, read].sum(1)
        # What has no bounds, or a width that overflows, proves nothing.
        lost = torch.where(width < float("inf"), 0.0, float("nan"))
        low, up = (Planes(p.a, p.b, p.old, p.shift + lost) for p in (low, up))
        return self._back(rows, low, up)


def assign(target: int, name: Name, left: Operand, right: Operand = 0.0) -> Assign:
    """The assignment, as an affine one where it is."""
    features = isinstance(left, int) + isinstance(right, int)
    affine = name in ("copy", "add", "sub") or (name == "mul" and features < 2)
    affine |= name == "div" and not isinstance(right, int)
    kind = AffineAssign if affine else BentAssign
    return kind(target, name, left, right)


def _of(operand: Operand, x: Tensor) -> Tensor:
    """Its values ``(n,)``."""
    return x[:, operand] if isinstance(operand, int) else x.new_full((len(x),), operand)


_SIMPLE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "max": torch.maximum,
    "min": torch.minimum,
}


def _factors(left: Operand, right: Operand) -> tuple[float, float]:
    """Coefficients of both operands of a product in which at most one is a value."""
    if isinstance(left, int):
        return float(right), 0.0
    return (0.0, left) if isinstance(right, int) else (float(right), 0.0)


def _product(la: Tensor, ua: Tensor, lb: Tensor, ub: Tensor) -> tuple[Tensor, Tensor]:
    corners = torch.stack([la * lb, la * ub, ua * lb, ua * ub])
    return corners.amin(0), corners.amax(0)


def _signed(lb: Tensor, ub: Tensor) -> Tensor:
    return (lb > 0) | (ub < 0)


def _nothing(lb: Tensor, ub: Tensor) -> Tensor:
    """Where a divisor is proved to be 0: the instruction is skipped."""
    return (lb == 0) & (ub == 0)


def _mul_planes(la: Tensor, ua: Tensor, lb: Tensor, ub: Tensor) -> tuple[Planes, Planes]:
    """McCormick: of both planes on each side the one that proves more on the whole box."""
    none = torch.zeros_like(la)
    below = [(lb, la, -la * lb), (ub, ua, -ua * ub)]
    above = [(lb, ua, -ua * lb), (ub, la, -la * ub)]

    def better(planes: list[tuple[Tensor, Tensor, Tensor]], sign: float) -> Planes:
        # All four meet in the middle of the box: what they reach at their worst corner decides.
        worst = []
        for p, q, r in planes:
            corners = torch.stack([sign * p * la, sign * p * ua]).amin(0)
            worst.append(corners + torch.stack([sign * q * lb, sign * q * ub]).amin(0) + sign * r)
        first = worst[0] >= worst[1]
        p, q, r = (torch.where(first, x, y) for x, y in zip(*planes, strict=True))
        return Planes(p, q, none, r)

    return better(below, 1.0), better(above, -1.0)


def _div_planes(la: Tensor, ua: Tensor, lb: Tensor, ub: Tensor) -> tuple[Planes, Planes]:
    """``a / b`` as ``a · r`` with the reciprocal ``r`` of a divisor whose sign is proved."""
    known, zero = _signed(lb, ub), _nothing(lb, ub)
    sign = torch.where(ub < 0, -1.0, 1.0)
    one = torch.ones_like(lb)
    low = torch.where(known, torch.where(ub < 0, -ub, lb), one)
    high = torch.where(known, torch.where(ub < 0, -lb, ub), one)
    left = torch.where(ub < 0, -ua, la), torch.where(ub < 0, -la, ua)
    middle = (low + high) / 2
    tangent = (2 / middle, -1 / middle**2)
    chord = (1 / low + 1 / high, -1 / (low * high))

    def through(
        planes: Planes, rising: tuple[Tensor, Tensor], falling: tuple[Tensor, Tensor]
    ) -> Planes:
        up = planes.b >= 0
        shift, slope = (torch.where(up, r, f) for r, f in zip(rising, falling, strict=True))
        lost = torch.where(known | zero, 0.0, float("nan"))
        parts = (sign * planes.a, sign * planes.b * slope, planes.shift + planes.b * shift)
        a, b, moved = (torch.where(zero, 0.0, part) for part in parts)
        return Planes(a, b, zero.to(la.dtype), moved + lost)

    below, above = _mul_planes(*left, 1 / high, 1 / low)
    return through(below, tangent, chord), through(above, chord, tangent)


def _max_planes(la: Tensor, ua: Tensor, lb: Tensor, ub: Tensor) -> tuple[Planes, Planes]:
    """``b + relu(a - b)``."""
    slope, shift, free, none = _bend(la - ub, ua - lb)
    return Planes(free, 1 - free, none, none), Planes(slope, 1 - slope, none, shift)


def _min_planes(la: Tensor, ua: Tensor, lb: Tensor, ub: Tensor) -> tuple[Planes, Planes]:
    """``a - relu(a - b)``."""
    slope, shift, free, none = _bend(la - ub, ua - lb)
    return Planes(1 - slope, slope, none, -shift), Planes(1 - free, free, none, none)


def _bend(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """ReLU on an interval: the chord's slope and shift, and the slope below (0 or 1)."""
    active, dead, none = low >= 0, high <= 0, torch.zeros_like(low)
    unstable = ~(active | dead)
    chord = high / torch.where(unstable, high - low, torch.ones_like(low))
    slope = torch.where(active, none + 1, torch.where(dead, none, chord))
    free = torch.where(active, none + 1, torch.where(dead, none, (high > -low).to(low.dtype)))
    return slope, torch.where(unstable, -chord * low, none), free, none


_PLANES = {"mul": _mul_planes, "div": _div_planes, "max": _max_planes, "min": _min_planes}
