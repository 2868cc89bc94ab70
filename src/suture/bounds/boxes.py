"""A box through an affine map: centre through the weights, radius through their absolute values.

The formula is that of Gowal et al. 2018. As separate operations its way back takes a dozen passes
and as many steps of bookkeeping; here it is written out. Second derivatives are not available.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from suture.bounds.transposed import suits, value

Ends = tuple[Tensor, Tensor]
Slopes = tuple[Tensor | None, ...]


def through_linear(lower: Tensor, upper: Tensor, weight: Tensor, bias: Tensor | None) -> Ends:
    """Ends ``(n, out)`` of ``W x + b`` over a box.

    Args:
        lower, upper: ``(n, in)``.
        weight: ``(out, in)``, shared by all examples.
        bias: ``(out,)`` or ``None``.
    """
    ends: Ends = _ThroughLinear.apply(lower, upper, weight, bias)
    return ends


def through_conv(
    lower: Tensor, upper: Tensor, weight: Tensor, bias: Tensor | None, *given: Any
) -> Ends:
    """Ends ``(n, out, h', w')`` of a convolution over a box.

    Args:
        lower, upper: ``(n, in, h, w)``.
        weight: ``(out, in / groups, kh, kw)``.
        bias: ``(out,)`` or ``None``.
        given: stride, padding, dilation and groups, as ``F.conv2d`` takes them.
    """
    ends: Ends = _ThroughConv.apply(lower, upper, weight, bias, *given)
    return ends


class _ThroughLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, lower: Tensor, upper: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Ends:
        middle, radius = _middle_and_radius(lower, upper)
        ctx.save_for_backward(middle, radius, weight)
        return _ends(F.linear(middle, weight, bias), F.linear(radius, weight.abs()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Slopes:
        middle, radius, weight = ctx.saved_tensors
        centre, spread = grads[0] + grads[1], grads[1] - grads[0]
        of_box: Slopes = (None, None)
        of_weight = of_bias = None
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            of_box = _of_ends(centre @ weight, spread @ weight.abs())
        if ctx.needs_input_grad[2]:
            of_weight = (centre.T @ middle).addcmul_(spread.T @ radius, weight.sgn())
        if ctx.needs_input_grad[3]:
            of_bias = centre.sum(0)
        return *of_box, of_weight, of_bias


class _ThroughConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, lower: Tensor, upper: Tensor, weight: Tensor, bias: Tensor | None, *given: Any
    ) -> Ends:
        middle, radius = _middle_and_radius(lower, upper)
        ctx.save_for_backward(middle, radius, weight)
        ctx.given = given
        centre = F.conv2d(middle, weight, bias, *given)
        return _ends(centre, F.conv2d(radius, weight.abs(), None, *given))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Slopes:
        middle, radius, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.given
        below, above, of_weight, wants_bias = ctx.needs_input_grad[:4]
        wanted = [below or above, of_weight]
        back = partial(_back, stride=stride, padding=padding, dilation=dilation, groups=groups)
        centre, spread = grads[0] + grads[1], grads[1] - grads[0]
        of_middle, first, of_bias = back(centre, middle, weight, [*wanted, wants_bias])
        of_radius, second, _ = back(spread, radius, weight.abs(), [*wanted, False])
        of_box = _of_ends(of_middle, of_radius) if wanted[0] else (None, None)
        if of_weight:
            first = torch.addcmul(first, second, weight.sgn())
        return *of_box, first, of_bias, *(None for _ in ctx.given)


def _back(
    grad: Tensor,
    inputs: Tensor,
    weight: Tensor,
    wanted: list[bool],
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> tuple[Any, Any, Any]:
    """Slopes of a convolution at inputs, kernel and bias; ``None`` where they are not wanted."""
    of_inputs = None
    if wanted[0] and suits(weight, stride, dilation, groups):
        size = (inputs.shape[2], inputs.shape[3])
        of_inputs = value(grad, weight, stride[0], padding, size)
        wanted = [False, *wanted[1:]]
        if not any(wanted):
            return of_inputs, None, None
    rest = [len(weight)], stride, padding, dilation, False, [0, 0], groups
    found = torch.ops.aten.convolution_backward(grad, inputs, weight, *rest, wanted)
    return found[0] if of_inputs is None else of_inputs, found[1], found[2]


def _middle_and_radius(lower: Tensor, upper: Tensor) -> Ends:
    return (upper + lower) / 2, (upper - lower) / 2


def _ends(centre: Tensor, spread: Tensor) -> Ends:
    # 0 · centre: where the centre overflows nothing is known, and both ends are NaN.
    spread = torch.add(spread, centre, alpha=0)
    return centre - spread, centre + spread


def _of_ends(of_middle: Tensor, of_radius: Tensor) -> Ends:
    """Slopes at both ends, from those at the middle and the radius."""
    return (of_middle - of_radius) / 2, (of_middle + of_radius) / 2
