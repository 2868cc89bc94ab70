"""Transposed convolutions with a stride, forward as an ordinary convolution.

The library's transposed convolution is slow where the result has few channels; its derivatives,
which are ordinary convolutions, are fast. So the value is found by one convolution with stride 1
that gives the ``stride²`` pixels of every block as channels (Shi et al. 2016, sub-pixel
convolution), and the derivatives come from the library. The slope of a convolution at its input is
such a transposed convolution too.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

FEW = 4
"""Channels of the result up to which this is faster than the library."""


def suits(weight: Tensor, stride: tuple[int, int], dilation: tuple[int, int], groups: int) -> bool:
    """Whether ``transposed`` can do it, and is worth it."""
    return (
        groups == 1
        and dilation == (1, 1)
        and stride[0] == stride[1] > 1
        and weight.shape[1] <= FEW
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
    )


def transposed(
    rows: Tensor, weight: Tensor, stride: int, padding: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """``F.conv_transpose2d`` of ``(k, out, h, w)``.

    Args:
        weight: ``(out, in, kh, kw)``.
        padding: of the convolution that this is the transpose of.
        size: height and width of the result.

    Returns:
        ``(k, in, *size)``.
    """
    found: Tensor = _Transposed.apply(rows, weight, stride, padding, size)
    return found


def value(
    rows: Tensor, weight: Tensor, stride: int, padding: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """``transposed`` for those who need no derivative of it."""
    blocks, (high, wide) = _by_blocks(weight, stride)
    found = F.conv2d(rows, blocks, padding=(high - 1, wide - 1))
    found = F.pixel_shuffle(found, stride)
    ends = [size[i] + padding[i] - found.shape[2 + i] for i in range(2)]
    return F.pad(found, (-padding[1], ends[1], -padding[0], ends[0]))


class _Transposed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        stride: int,
        padding: tuple[int, int],
        size: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.given = stride, padding, size
        return value(rows, weight, stride, padding, size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        stride, padding, size = ctx.given
        rest = [
            size[i] - ((rows.shape[2 + i] - 1) * stride - 2 * padding[i] + weight.shape[2 + i])
            for i in range(2)
        ]
        wanted = [*ctx.needs_input_grad[:2], False]
        of_rows, of_weight, _ = torch.ops.aten.convolution_backward(
            grads[0], rows, weight, None, [stride] * 2, padding, [1, 1], True, rest, 1, wanted
        )
        return of_rows, of_weight, None, None, None


def _by_blocks(weight: Tensor, stride: int) -> tuple[Tensor, tuple[int, int]]:
    """The kernel ``(in · stride², out, high, wide)`` whose channels are the pixels of a block."""
    out, channels, height, width = weight.shape
    high, wide = math.ceil(height / stride), math.ceil(width / stride)
    filled = F.pad(weight, (0, wide * stride - width, 0, high * stride - height))
    split = filled.view(out, channels, high, stride, wide, stride).flip(2, 4)
    return split.permute(1, 3, 5, 0, 2, 4).reshape(-1, out, high, wide), (high, wide)
