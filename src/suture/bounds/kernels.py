"""What bounds do to large arrays element by element, in one pass over them, forward and backward.

As tensor operations each takes several passes, and every one of them asks the system for fresh
memory, which costs more than the arithmetic.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from suture.bounds import loops
from suture.errors import ArgumentError


def plain(*values: Tensor) -> bool:
    """Whether kernels can read the values: in main memory, float32 or float64, all alike."""
    first = values[0]
    return (
        first.device.type == "cpu"
        and first.dtype in (torch.float32, torch.float64)
        and all(value.dtype == first.dtype and value.device == first.device for value in values)
    )


def bends(rows: Tensor, low: Tensor, up: Tensor, shift: Tensor) -> bool:
    """Whether ``bend`` can do it: a relaxation that an example's rows share."""
    return (
        plain(rows, low, up, shift)
        and low.shape == up.shape == shift.shape
        and rows.shape[2:] == low.shape[1:]
        and rows.shape[0] in (1, len(low))
        and rows.shape[1] > 0
    )


def bend(rows: Tensor, low: Tensor, up: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Rows before an activation from rows behind it: ``c·low`` where ``c >= 0``, else ``c·up``.

    NaN in a neuron's relaxation makes the rows NaN, whatever the sign.

    Args:
        rows: ``(n or 1, rows, *shape)``.
        low, up: slopes of the lower and the upper linear bound, ``(n, *shape)``.
        shift: of the upper one; the lower one passes through zero.

    Returns:
        rows ``(n, rows, *shape)`` and what the shifts add to them ``(n, rows)``.
    """
    out: tuple[Tensor, Tensor] = _Bend.apply(rows, low, up, shift)
    return out


class _Bend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, low: Tensor, up: Tensor, shift: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(rows, low, up, shift)
        given = _flat(rows, 2), _flat(low, 1), _flat(up, 1), _flat(shift, 1)
        out = rows.new_empty(len(low), *rows.shape[1:])
        add = rows.new_empty(len(low), rows.shape[1])
        loops.bend(*given, out.flatten(2).numpy(), add.numpy())
        return out, add

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, up, shift = ctx.saved_tensors
        given = _flat(rows, 2), _flat(low, 1), _flat(up, 1), _flat(shift, 1)
        of_rows = rows.new_empty(len(low), *rows.shape[1:])
        of_relaxation = [
            torch.zeros_like(low, memory_format=torch.contiguous_format) for _ in range(3)
        ]
        loops.bend_back(
            *given,
            _flat(grads[0], 2),
            grads[1].detach().contiguous().numpy(),
            of_rows.flatten(2).numpy(),
            *(t.flatten(1).numpy() for t in of_relaxation),
        )
        if len(rows) < len(low):
            of_rows = of_rows.sum(0, keepdim=True)
        return of_rows, *of_relaxation


def relu_relaxation(lower: Tensor, upper: Tensor, slope: float) -> tuple[Tensor, Tensor, Tensor]:
    """DeepPoly's relaxation of a (leaky) ReLU: slope below, slope and shift above.

    Args:
        lower, upper: ``(n, *shape)``.
        slope: on the negative side.
    """
    out: tuple[Tensor, Tensor, Tensor] = _ReluLines.apply(lower, upper, slope)
    return out


class _ReluLines(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, lower: Tensor, upper: Tensor, slope: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(lower, upper)
        ctx.slope = slope
        ctx.mark_non_differentiable(low := lower.new_empty(lower.shape))
        up, shift = lower.new_empty(lower.shape), lower.new_empty(lower.shape)
        parts = (part.flatten(1).numpy() for part in (low, up, shift))
        loops.relu_relaxation(_flat(lower, 1), _flat(upper, 1), slope, *parts)
        return low, up, shift

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        lower, upper = ctx.saved_tensors
        of_lower, of_upper = lower.new_empty(lower.shape), upper.new_empty(upper.shape)
        loops.relu_relaxation_back(
            _flat(lower, 1),
            _flat(upper, 1),
            ctx.slope,
            _flat(grads[1], 1),
            _flat(grads[2], 1),
            of_lower.flatten(1).numpy(),
            of_upper.flatten(1).numpy(),
        )
        return of_lower, of_upper, None


def least(rows: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The smallest values of ``rows·x`` on a box: ``(n, rows)``; NaN where one overflows.

    Args:
        rows: ``(n, rows, m)``.
        lower, upper: ``(n, m)``.

    Raises:
        ArgumentError: rows and box of different shapes.
    """
    _check(rows, lower, upper)
    found: Tensor = _Least.apply(rows, lower, upper)
    return found


class _Least(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        ctx.save_for_backward(rows, lower, upper)
        found = rows.new_empty(rows.shape[:2])
        loops.least(_flat(rows, 2), _flat(lower, 1), _flat(upper, 1), found.numpy())
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _slopes(ctx, grads[0], torch.zeros_like(grads[0]))


def least_and_most(rows: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest values in one reading of the rows: ``(n, rows)`` twice.

    Arguments, NaN and errors are as for ``least``.
    """
    _check(rows, lower, upper)
    found: tuple[Tensor, Tensor] = _LeastAndMost.apply(rows, lower, upper)
    return found


class _LeastAndMost(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(rows, lower, upper)
        least, most = rows.new_empty(2, *rows.shape[:2])
        given = _flat(rows, 2), _flat(lower, 1), _flat(upper, 1)
        loops.least_and_most(*given, least.numpy(), most.numpy())
        return least, most

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _slopes(ctx, *grads)


def _slopes(ctx: Any, of_least: Tensor, of_most: Tensor) -> tuple[Tensor | None, ...]:
    """Slopes at rows, lower and upper, of those asked for: all of them read every row."""
    rows, lower, upper = ctx.saved_tensors
    given, outer = _flat(rows, 2), (_flat(of_least, 1), _flat(of_most, 1))
    of_rows = of_lower = of_upper = None
    if ctx.needs_input_grad[0]:
        of_rows = rows.new_empty(rows.shape)
        loops.slope_of_rows(given, _flat(lower, 1), _flat(upper, 1), *outer, _flat(of_rows, 2))
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        of_lower, of_upper = rows.new_zeros(lower.shape), rows.new_zeros(upper.shape)
        loops.slope_of_box(given, *outer, _flat(of_lower, 1), _flat(of_upper, 1))
    return of_rows, of_lower, of_upper


def _check(rows: Tensor, lower: Tensor, upper: Tensor) -> None:
    """Compiled loops do not look where an array ends."""
    if not lower.shape == upper.shape == rows.shape[:1] + rows.shape[2:]:
        raise ArgumentError(
            expected=f"a box of shape {list(rows.shape[:1] + rows.shape[2:])} for these rows",
            got=f"lower {list(lower.shape)} and upper {list(upper.shape)}",
            remedy="Expand the box to one for each example.",
        )


def _flat(values: Tensor, axes: int) -> Any:
    return values.detach().contiguous().flatten(axes).numpy()
