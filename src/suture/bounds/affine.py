"""Operations that are affine, ``y = M x + b``: their bounds lose nothing.

Each knows, beyond ``forward`` and ``interval``, how to substitute linear coefficients of its output
back to its input: ``c·y = (c M)·x + c·b``. Coefficients are ``(n or 1, rows, *shape)``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from suture.bounds import kernels
from suture.bounds.boxes import through_conv, through_linear
from suture.bounds.coefficients import Patches
from suture.bounds.network import Op
from suture.bounds.transposed import suits, transposed

_LARGEST_MATRIX = 1_000_000

Boxes = Sequence[Tensor]
BackwardBound = tuple[list[Any], Tensor | float]
"""Coefficients of each input, and what the constants add to the rows ``(n or 1, rows)``."""


def _cast(value: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if value is None else value.to(dtype)


@dataclass(frozen=True, eq=False)
class Linear(Op):
    """``y = W x + b``.

    Attributes:
        weight: ``(out, in)``, or ``(n, out, in)``: one matrix per example.
        bias: ``(out,)`` or ``(n, out)``, or ``None``.
    """

    affine: ClassVar[bool] = True
    dense: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    weight: Tensor
    bias: Tensor | None = None

    @property
    def examples(self) -> int:
        """Number of examples that have weights of their own; 1 for shared weights."""
        return self.weight.shape[0] if self.weight.ndim == 3 else 1

    def forward(self, *values: Tensor) -> Tensor:
        """``(n, in)`` to ``(n, out)``."""
        out = self._times(values[0], self.weight)
        return out if self.bias is None else out + self.bias

    def interval(self, lower: Boxes, upper: Boxes) -> tuple[Tensor, Tensor]:
        """Centre through the matrix, radius through its absolute values."""
        flat = lower[0].ndim == 2 and (self.bias is None or self.bias.ndim == 1)
        if self.weight.ndim == 2 and flat:
            return through_linear(lower[0], upper[0], self.weight, self.bias)
        if self.weight.ndim == 3 and kernels.plain(self.weight, lower[0], upper[0]):
            ends = kernels.least_and_most(self.weight, lower[0], upper[0])
            return ends if self.bias is None else (ends[0] + self.bias, ends[1] + self.bias)
        middle, radius = (upper[0] + lower[0]) / 2, (upper[0] - lower[0]) / 2
        centre, spread = self.forward(middle), self._times(radius, self.weight.abs())
        return centre - spread, centre + spread

    def _times(self, x: Tensor, weight: Tensor) -> Tensor:
        if weight.ndim == 2:
            return F.linear(x, weight)
        # A row times the transposed matrices: four times faster than matrices times a column.
        return torch.bmm(x.unsqueeze(1), weight.transpose(1, 2)).squeeze(1)

    def bound_backward(self, rows: Tensor) -> BackwardBound:
        """``c W`` and ``c·b``."""
        add = 0.0 if self.bias is None else _dot(rows, self.bias)
        return [rows @ self.weight], add

    def rows(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the matrix: what ``bound_backward`` makes of unit vectors, without products.

        Args:
            chosen: outputs ``(k,)``, or ``(n, k)``: others for each example.

        Returns:
            rows ``(n or 1, k, in)`` and constants ``(n or 1, k)``.
        """
        bias = self.weight.new_zeros(self.weight.shape[:-1]) if self.bias is None else self.bias
        if self.weight.ndim == 2:
            rows, const = self.weight[chosen], bias[chosen]
            return (rows[None], const[None]) if chosen.ndim == 1 else (rows, const)
        chosen = chosen.expand(len(self.weight), -1)
        example = torch.arange(len(self.weight), device=chosen.device)[:, None]
        const = bias[chosen] if bias.ndim == 1 else bias[example, chosen]
        return self.weight[example, chosen], const

    def part(self, examples: slice) -> Linear:
        """The weights of some examples, where each has its own."""
        weight = self.weight[examples] if self.weight.ndim == 3 else self.weight
        own = self.bias is not None and self.bias.ndim == 2
        return Linear(weight, self.bias[examples] if own and self.bias is not None else self.bias)

    def to(self, dtype: torch.dtype) -> Linear:
        """With constants of that type."""
        return Linear(self.weight.to(dtype), _cast(self.bias, dtype))


@dataclass(frozen=True, eq=False)
class Conv(Op):
    """2-D convolution with zero padding; average pooling is one of these.

    Attributes:
        weight: ``(out, in / groups, kh, kw)``.
        bias: ``(out,)`` or ``None``.
        stride, padding, dilation: per spatial axis.
    """

    affine: ClassVar[bool] = True
    windowed: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    in_shape: tuple[int, ...]

    def forward(self, *values: Tensor) -> Tensor:
        """``(n, in, h, w)`` to ``(n, out, h', w')``."""
        return F.conv2d(values[0], self.weight, self.bias, *self._given)

    def interval(self, lower: Boxes, upper: Boxes) -> tuple[Tensor, Tensor]:
        """Centre through the kernel, radius through its absolute values."""
        return through_conv(lower[0], upper[0], self.weight, self.bias, *self._given)

    @property
    def _given(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self.groups

    def bound_backward(self, rows: Tensor) -> BackwardBound:
        """Transposed convolution of the coefficients."""
        add = 0.0 if self.bias is None else torch.einsum("nrchw,c->nr", rows, self.bias)
        back = self._back(rows.reshape(-1, *rows.shape[2:]), self._rest(rows))
        return [back.reshape(*rows.shape[:2], *back.shape[1:])], add

    def _back(self, rows: Tensor, rest: tuple[int, int]) -> Tensor:
        if suits(self.weight, self.stride, self.dilation, self.groups):
            size = (self.in_shape[1], self.in_shape[2])
            return transposed(rows, self.weight, self.stride[0], self.padding, size)
        return F.conv_transpose2d(
            rows, self.weight, None, self.stride, self.padding, rest, self.groups, self.dilation
        )

    def _rest(self, rows: Tensor) -> tuple[int, int]:
        """Rows and columns at the far edge that no window reaches."""
        sizes = zip(self.in_shape[1:], rows.shape[-2:], range(2), strict=True)
        rest = [
            size - ((out - 1) * self.stride[i] - 2 * self.padding[i] + self._reach(i))
            for size, out, i in sizes
        ]
        return rest[0], rest[1]

    def _reach(self, axis: int) -> int:
        return self.dilation[axis] * (self.weight.shape[2 + axis] - 1) + 1

    def bound_backward_patches(self, patches: Patches) -> tuple[Patches, Tensor | float]:
        """Like ``bound_backward`` for coefficients that live in small windows."""
        value = patches.cleaned().value
        add: Tensor | float = 0.0
        if self.bias is not None:
            add = torch.einsum("nrschw,c->nrs", value, self.bias)
        back = self._spread_back(value.reshape(-1, *value.shape[3:]))
        top = patches.top * self.stride[0] - self.padding[0]
        left = patches.left * self.stride[1] - self.padding[1]
        value = back.reshape(*value.shape[:3], *back.shape[1:])
        return Patches(value, top, left, self.in_shape), add

    def _spread_back(self, windows: Tensor) -> Tensor:
        """Transposed convolution of ``(k, out, kh, kw)``.

        For small windows a matrix product does some work in vain, and is ten times faster than
        the library's transposed convolution of many tiny pictures.
        """
        _, out, kh, kw = windows.shape
        high = (kh - 1) * self.stride[0] + self._reach(0)
        wide = (kw - 1) * self.stride[1] + self._reach(1)
        before, after = out * kh * kw, self.in_shape[0] * high * wide
        if before * after > _LARGEST_MATRIX:
            return F.conv_transpose2d(
                windows, self.weight, None, self.stride, 0, 0, self.groups, self.dilation
            )
        matrix = self._matrix(kh, kw, high, wide).view(before, after)
        return (windows.flatten(1) @ matrix).view(-1, self.in_shape[0], high, wide)

    def _matrix(self, kh: int, kw: int, high: int, wide: int) -> Tensor:
        """What each cell of an output window ``kh × kw`` gives to the input window, as
        ``(out, kh, kw, in, high, wide)``: the kernel, moved."""
        weight = self._ungrouped()
        out = weight.new_zeros(weight.shape[0], kh, kw, self.in_shape[0], high, wide)
        for y, x in itertools.product(range(kh), range(kw)):
            top, left = y * self.stride[0], x * self.stride[1]
            rows = slice(top, top + self._reach(0), self.dilation[0])
            columns = slice(left, left + self._reach(1), self.dilation[1])
            out[:, y, x, :, rows, columns] = weight
        return out

    def _ungrouped(self) -> Tensor:
        """The kernels ``(out, in, kh, kw)``, zero for channels of other groups."""
        weight, per_group = self.weight, self.weight.shape[0] // self.groups
        if self.groups == 1:
            return weight
        wide = weight.new_zeros(weight.shape[0], self.in_shape[0], *weight.shape[2:])
        span = weight.shape[1]
        for group in range(self.groups):
            own = slice(group * per_group, (group + 1) * per_group)
            wide[own, group * span : (group + 1) * span] = weight[own]
        return wide

    def windows(self, channels: Tensor, top: Tensor, left: Tensor) -> Patches:
        """The kernels of output neurons ``channels`` × places, as patches of the input.

        Args:
            channels: ``(rows, places)`` output channel of each row at each place, or ``(rows, 1)``.
            top, left: ``(places,)`` position of each place in the output.
        """
        value = self._spread(self._ungrouped())[channels]
        value = value.expand(-1, len(top), *value.shape[2:])[None]
        return Patches(
            value,
            top * self.stride[0] - self.padding[0],
            left * self.stride[1] - self.padding[1],
            self.in_shape,
        )

    def _spread(self, kernels: Tensor) -> Tensor:
        """Kernels with the gaps of their dilation written out."""
        if self.dilation == (1, 1):
            return kernels
        wide = kernels.new_zeros(*kernels.shape[:2], self._reach(0), self._reach(1))
        wide[..., :: self.dilation[0], :: self.dilation[1]] = kernels
        return wide

    def to(self, dtype: torch.dtype) -> Conv:
        """With constants of that type."""
        return Conv(
            self.weight.to(dtype),
            _cast(self.bias, dtype),
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.in_shape,
        )


@dataclass(frozen=True, eq=False)
class Scale(Op):
    """``y = scale·x + shift``, element by element: normalisation, batch norm in eval mode.

    Attributes:
        scale, shift: tensors that broadcast against one example, or ``None`` for 1 and 0.
    """

    affine: ClassVar[bool] = True
    windowed: ClassVar[bool] = True

    scale: Tensor | None
    shift: Tensor | None

    def forward(self, *values: Tensor) -> Tensor:
        """``(n, ...)`` to the same shape."""
        x = values[0] if self.scale is None else values[0] * self.scale
        return x if self.shift is None else x + self.shift

    def interval(self, lower: Boxes, upper: Boxes) -> tuple[Tensor, Tensor]:
        """Ends swap where the scale is negative."""
        a, b = self.forward(lower[0]), self.forward(upper[0])
        return (a, b) if self.scale is None else (torch.minimum(a, b), torch.maximum(a, b))

    def bound_backward(self, rows: Tensor) -> BackwardBound:
        """``c·scale`` and ``c·shift``."""
        add: Tensor | float = 0.0
        if self.shift is not None:
            add = _dot(rows.flatten(2), self.shift.expand(rows.shape[2:]).flatten())
        return [rows if self.scale is None else rows * self.scale], add

    def bound_backward_patches(self, patches: Patches) -> tuple[Patches, Tensor | float]:
        """Like ``bound_backward``, with the constants of each window."""
        value, shape = patches.value, patches.shape
        add: Tensor | float = 0.0
        if self.shift is not None:
            shift = patches.gather(self.shift.expand(shape)[None])
            add = (value * shift).flatten(3).sum(-1)
        if self.scale is not None:
            value = value * patches.gather(self.scale.expand(shape)[None])
        return patches.replaced(value), add

    def to(self, dtype: torch.dtype) -> Scale:
        """With constants of that type."""
        return Scale(_cast(self.scale, dtype), _cast(self.shift, dtype))


@dataclass(frozen=True, eq=False)
class BatchNorm(Op):
    """Batch norm as it works in eval mode; its statistics are read when used, as training moves
    them.

    Attributes:
        layer: the module.
        axes: spatial axes of its input.
    """

    affine: ClassVar[bool] = True
    windowed: ClassVar[bool] = True

    layer: Any
    axes: int

    def scale(self) -> Scale:
        """``gamma / sqrt(var + eps)`` and ``beta - mean · scale``, as constants."""
        layer = self.layer
        scale = torch.rsqrt(layer.running_var + layer.eps)
        scale = scale if layer.weight is None else scale * layer.weight
        shift = -layer.running_mean * scale
        shift = shift if layer.bias is None else shift + layer.bias
        shape = (-1, *(1,) * self.axes)
        return Scale(scale.view(shape), shift.view(shape))

    def forward(self, *values: Tensor) -> Tensor:
        """``(n, c, ...)`` to the same shape."""
        return self.scale().forward(*values)

    def interval(self, lower: Boxes, upper: Boxes) -> tuple[Tensor, Tensor]:
        """As for any scale."""
        return self.scale().interval(lower, upper)

    def bound_backward(self, rows: Tensor) -> BackwardBound:
        """As for any scale."""
        return self.scale().bound_backward(rows)

    def bound_backward_patches(self, patches: Patches) -> tuple[Patches, Tensor | float]:
        """As for any scale."""
        return self.scale().bound_backward_patches(patches)

    def to(self, dtype: torch.dtype) -> Scale:
        """Its constants as they are now, with that type."""
        return self.scale().to(dtype)


def _dot(rows: Tensor, constant: Tensor) -> Tensor:
    """``(n, rows, m)`` times ``(m,)`` or ``(n, m)``: ``(n, rows)``."""
    if constant.ndim == 1:
        return rows @ constant
    return torch.einsum("nrm,nm->nr", rows.expand(len(constant), -1, -1), constant)


def average_pool(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    shape: tuple[int, ...],
    like: Tensor,
) -> Conv:
    """Average pooling (padding counted) as a convolution of every channel by itself."""
    weight = like.new_full((shape[0], 1, *kernel), 1.0 / math.prod(kernel))
    return Conv(weight, None, stride, padding, (1, 1), shape[0], shape)
