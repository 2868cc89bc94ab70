"""Operations that only move values around, and the sum of two branches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from suture.bounds.affine import BackwardBound, Boxes
from suture.bounds.network import Op


class _Moves(Op):
    """Shared by what only rearranges: a box is rearranged like a value."""

    affine: ClassVar[bool] = True

    def forward(self, *values: Tensor) -> Tensor:
        """The rearranged value."""
        raise NotImplementedError

    def interval(self, lower: Boxes, upper: Boxes) -> tuple[Tensor, Tensor]:
        """Both ends, rearranged."""
        return self.forward(lower[0]), self.forward(upper[0])

    def to(self, dtype: torch.dtype) -> Any:
        """Itself: there are no constants."""
        return self


@dataclass(frozen=True)
class ReshapeOp(_Moves):
    """From one shape of an example to another; flattening, for instance."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    def forward(self, *values: Tensor) -> Tensor:
        """``(n, *before)`` to ``(n, *after)``."""
        return values[0].reshape(len(values[0]), *self.after)

    def bound_backward(self, rows: Tensor) -> BackwardBound:
        """Coefficients in the shape from before."""
        return [rows.reshape(*rows.shape[:2], *self.before)], 0.0


@dataclass(frozen=True)
class PermuteOp(_Moves):
    """Axes of an example in another order, counted without the batch axis."""

    order: tuple[int, ...]

    def forward(self, *values: Tensor) -> Tensor:
        """The value with its axes reordered."""
        return values[0].permute(0, *(axis + 1 for axis in self.order))

    def bound_backward(self, rows: Tensor) -> BackwardBound:
        """Axes back in the old order."""
        back = [self.order.index(axis) + 2 for axis in range(len(self.order))]
        return [rows.permute(0, 1, *back)], 0.0


@dataclass(frozen=True)
class Pad(_Moves):
    """A constant around the last axes; ``amounts`` as ``torch.nn.functional.pad`` counts them."""

    amounts: tuple[int, ...]
    value: float = 0.0

    def forward(self, *values: Tensor) -> Tensor:
        """The padded value."""
        return F.pad(values[0], self.amounts, value=self.value)

    def bound_backward(self, rows: Tensor) -> BackwardBound:
        """Coefficients of what is not padding."""
        inner = F.pad(rows, [-amount for amount in self.amounts])
        rim = rows.flatten(2).sum(-1) - inner.flatten(2).sum(-1) if self.value else None
        return [inner], 0.0 if rim is None else self.value * rim


@dataclass(frozen=True)
class Slice(_Moves):
    """``value[:, index]`` with one slice per axis of an example."""

    index: tuple[slice, ...]
    before: tuple[int, ...]

    def forward(self, *values: Tensor) -> Tensor:
        """The chosen part."""
        return values[0][(slice(None), *self.index)]

    def bound_backward(self, rows: Tensor) -> BackwardBound:
        """Zero for what was not chosen."""
        out = rows.new_zeros(*rows.shape[:2], *self.before)
        out[(slice(None), slice(None), *self.index)] = rows
        return [out], 0.0


@dataclass(frozen=True)
class Mean(Op):
    """The mean over the spatial axes, as global average pooling takes it."""

    affine: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    before: tuple[int, ...]

    def forward(self, *values: Tensor) -> Tensor:
        """``(n, c, h, w)`` to ``(n, c, 1, 1)``."""
        return values[0].mean((-2, -1), keepdim=True)

    def interval(self, lower: Boxes, upper: Boxes) -> tuple[Tensor, Tensor]:
        """The means of both ends."""
        return self.forward(lower[0]), self.forward(upper[0])

    def bound_backward(self, rows: Tensor) -> BackwardBound:
        """Every pixel gets its share."""
        share = rows / (self.before[-1] * self.before[-2])
        return [share.expand(*rows.shape[:2], *self.before)], 0.0

    def to(self, dtype: torch.dtype) -> Mean:
        """Itself."""
        return self


@dataclass(frozen=True)
class Add(Op):
    """The sum of two nodes (residual links) or the difference, with ``sign=-1``."""

    affine: ClassVar[bool] = True

    sign: int = 1

    def forward(self, *values: Tensor) -> Tensor:
        """``a + b``."""
        return values[0] + self.sign * values[1]

    def interval(self, lower: Boxes, upper: Boxes) -> tuple[Tensor, Tensor]:
        """Ends add up; a subtracted box is turned round."""
        second = (lower[1], upper[1]) if self.sign > 0 else (-upper[1], -lower[1])
        return lower[0] + second[0], upper[0] + second[1]

    def bound_backward(self, rows: Any) -> BackwardBound:
        """The same coefficients for both."""
        return [rows, rows if self.sign > 0 else -rows], 0.0

    def to(self, dtype: torch.dtype) -> Add:
        """Itself."""
        return self


def whole(index: Sequence[Any], before: tuple[int, ...]) -> tuple[slice, ...] | None:
    """An index without the batch axis as slices, ``None`` if it holds anything else."""
    parts = [slice(None) if part is Ellipsis else part for part in index]
    if not all(isinstance(part, slice) for part in parts) or len(parts) > len(before):
        return None
    return tuple(parts) + (slice(None),) * (len(before) - len(parts))
