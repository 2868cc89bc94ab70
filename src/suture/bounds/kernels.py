"""What bounds do to large arrays element by element, in one pass over them, forward and backward.

As tensor operations each takes several passes, and every one of them asks the system for fresh
memory, which costs more than the arithmetic.
"""

from __future__ import annotations

from typing import Any

import numba
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def plain(*values: Tensor) -> bool:
    """Whether kernels can read the values: in main memory, float32 or float64, all alike."""
    first = values[0]
    return (
        first.device.type == "cpu"
        and first.dtype in (torch.float32, torch.float64)
        and all(value.dtype == first.dtype and value.device == first.device for value in values)
    )


def bends(rows: Tensor, low: Tensor, up: Tensor, shift: Tensor) -> bool:
    """Whether ``bend`` can do it: lines that an example's rows share."""
    return (
        plain(rows, low, up, shift)
        and low.shape == up.shape == shift.shape
        and rows.shape[2:] == low.shape[1:]
        and rows.shape[0] in (1, len(low))
        and rows.shape[1] > 0
    )


def bend(rows: Tensor, low: Tensor, up: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Rows before an activation from rows behind it: ``c·low`` where ``c >= 0``, else ``c·up``.

    NaN in any line of a neuron makes the rows NaN, whatever the sign.

    Args:
        rows: ``(n or 1, rows, *shape)``.
        low, up: slopes of the lower and the upper line, ``(n, *shape)``.
        shift: of the upper line; the lower one passes through zero.

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
        _bend(*given, out.flatten(2).numpy(), add.numpy())
        return out, add

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, up, shift = ctx.saved_tensors
        given = _flat(rows, 2), _flat(low, 1), _flat(up, 1), _flat(shift, 1)
        of_rows = rows.new_empty(len(low), *rows.shape[1:])
        of_lines = [torch.zeros_like(low, memory_format=torch.contiguous_format) for _ in range(3)]
        _bend_back(
            *given, _flat(grads[0], 2), grads[1].detach().contiguous().numpy(),
            of_rows.flatten(2).numpy(), *(t.flatten(1).numpy() for t in of_lines),
        )  # fmt: skip
        if len(rows) < len(low):
            of_rows = of_rows.sum(0, keepdim=True)
        return of_rows, *of_lines


def relu_lines(lower: Tensor, upper: Tensor, slope: float) -> tuple[Tensor, Tensor, Tensor]:
    """DeepPoly's lines of a (leaky) ReLU: slopes of the lower and the upper, shift of the upper.

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
        lines = (line.flatten(1).numpy() for line in (low, up, shift))
        _relu_lines(_flat(lower, 1), _flat(upper, 1), slope, *lines)
        return low, up, shift

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        lower, upper = ctx.saved_tensors
        of_lower, of_upper = lower.new_empty(lower.shape), upper.new_empty(upper.shape)
        _relu_lines_back(
            _flat(lower, 1), _flat(upper, 1), ctx.slope, _flat(grads[1], 1), _flat(grads[2], 1),
            of_lower.flatten(1).numpy(), of_upper.flatten(1).numpy(),
        )  # fmt: skip
        return of_lower, of_upper, None


def least(rows: Tensor, middle: Tensor, radius: Tensor) -> Tensor:
    """``rows·middle - |rows|·radius``, ``(n, rows)``.

    Args:
        rows: ``(n, rows, m)``.
        middle, radius: ``(n, m)``.
    """
    found: Tensor = _Least.apply(rows, middle, radius)
    return found


class _Least(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, middle: Tensor, radius: Tensor) -> Tensor:
        ctx.save_for_backward(rows, middle, radius)
        found = rows.new_empty(rows.shape[:2])
        _least(_flat(rows, 2), _flat(middle, 1), _flat(radius, 1), found.numpy())
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _slopes(ctx, grads[0], -grads[0])


def both_products(weight: Tensor, middle: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """``W middle`` and ``|W| radius`` in one reading of the weights: ``(n, out)`` twice.

    Args:
        weight: ``(n, out, in)``, one matrix per example.
        middle, radius: ``(n, in)``.
    """
    found: tuple[Tensor, Tensor] = _Products.apply(weight, middle, radius)
    return found


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, middle: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(weight, middle, radius)
        centre, spread = weight.new_empty(2, *weight.shape[:2])
        given = _flat(weight, 2), _flat(middle, 1), _flat(radius, 1)
        _products(*given, centre.numpy(), spread.numpy())
        return centre, spread

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _slopes(ctx, *grads)


def _slopes(ctx: Any, of_centre: Tensor, of_spread: Tensor) -> tuple[Tensor | None, ...]:
    """Slopes at values, middle and radius, of those asked for: all of them read every value."""
    values, middle, radius = ctx.saved_tensors
    given, outer = _flat(values, 2), (_flat(of_centre, 1), _flat(of_spread, 1))
    of_values = of_middle = of_radius = None
    if ctx.needs_input_grad[0]:
        of_values = values.new_empty(values.shape)
        _of_rows(given, _flat(middle, 1), _flat(radius, 1), *outer, of_values.numpy())
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        of_middle, of_radius = torch.zeros_like(middle), torch.zeros_like(radius)
        _of_box(given, *outer, of_middle.numpy(), of_radius.numpy())
    return of_values, of_middle, of_radius


def _flat(values: Tensor, axes: int) -> Any:
    return values.detach().contiguous().flatten(axes).numpy()


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _relu_lines(lower, upper, slope, low, up, shift):  # type: ignore[no-untyped-def]
    flat, zero, one = lower.dtype.type(slope), lower.dtype.type(0), lower.dtype.type(1)
    for i in range(lower.shape[0]):
        for j in range(lower.shape[1]):
            first, last = lower[i, j], upper[i, j]
            # Without bounds the chord is NaN, and so is the shift: nothing will be proved.
            chord = (last - flat * first) / (last - first)
            up[i, j] = one if first >= 0 else (flat if last <= 0 else chord)
            tall = one if last > -first else flat
            low[i, j] = one if first >= 0 else (flat if last <= 0 else tall)
        for j in range(lower.shape[1]):
            first, last = lower[i, j], upper[i, j]
            open_shift = (flat - (last - flat * first) / (last - first)) * first
            shift[i, j] = zero if first >= 0 or last <= 0 else open_shift


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _relu_lines_back(  # type: ignore[no-untyped-def]
    lower, upper, slope, of_up, of_shift, of_lower, of_upper
):
    flat, zero = lower.dtype.type(slope), lower.dtype.type(0)
    part = lower.dtype.type(1) - flat
    for i in range(lower.shape[0]):
        for j in range(lower.shape[1]):
            first, last = lower[i, j], upper[i, j]
            chord, width = (last - flat * first) / (last - first), last - first
            whole = (of_up[i, j] - of_shift[i, j] * first) * part / (width * width)
            settled = first >= 0 or last <= 0
            of_upper[i, j] = zero if settled else -whole * first
            of_lower[i, j] = zero if settled else whole * last + of_shift[i, j] * (flat - chord)


@numba.njit(nogil=True, cache=True, fastmath={"reassoc"}, error_model="numpy")
def _bend(rows, low, up, shift, out, add):  # type: ignore[no-untyped-def]
    zero = rows.dtype.type(0)
    for i in range(out.shape[0]):
        own = i if rows.shape[0] > 1 else 0
        for r in range(out.shape[1]):
            total = zero
            for j in range(out.shape[2]):
                c = rows[own, r, j]
                negative = c if c < 0 else zero
                out[i, r, j] = c * low[i, j] + negative * (up[i, j] - low[i, j])
                total += negative * shift[i, j]
            add[i, r] = total


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _bend_back(  # type: ignore[no-untyped-def]
    rows, low, up, shift, of_out, of_add, of_rows, of_low, of_up, of_shift
):
    # Three loops over a row that stays in the cache: with fewer arrays each, they become vector
    # instructions, as one loop does not.
    zero, one = rows.dtype.type(0), rows.dtype.type(1)
    for i in range(of_out.shape[0]):
        own = i if rows.shape[0] > 1 else 0
        for r in range(of_out.shape[1]):
            constant = of_add[i, r]
            for j in range(of_out.shape[2]):
                negative = one if rows[own, r, j] < 0 else zero
                slope = low[i, j] + negative * (up[i, j] - low[i, j])
                of_rows[i, r, j] = of_out[i, r, j] * slope + constant * negative * shift[i, j]
            for j in range(of_out.shape[2]):
                whole = of_out[i, r, j] * rows[own, r, j]
                below = whole * (one if rows[own, r, j] < 0 else zero)
                of_up[i, j] += below
                of_low[i, j] += whole - below
            for j in range(of_out.shape[2]):
                negative = rows[own, r, j] if rows[own, r, j] < 0 else zero
                of_shift[i, j] += constant * negative


@numba.njit(nogil=True, cache=True, fastmath={"reassoc"}, error_model="numpy")
def _least(rows, middle, radius, found):  # type: ignore[no-untyped-def]
    zero = rows.dtype.type(0)
    for i in range(rows.shape[0]):
        for r in range(rows.shape[1]):
            total = zero
            for j in range(rows.shape[2]):
                c = rows[i, r, j]
                total += c * middle[i, j] - abs(c) * radius[i, j]
            found[i, r] = total


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _of_rows(values, middle, radius, of_middle, of_radius, found):  # type: ignore[no-untyped-def]
    """Slope of ``Σ (of_middle c·middle + of_radius |c|·radius)`` at the values c."""
    zero = values.dtype.type(0)
    for i in range(values.shape[0]):
        for r in range(values.shape[1]):
            first, second = of_middle[i, r], of_radius[i, r]
            for j in range(values.shape[2]):
                c = values[i, r, j]
                signed = radius[i, j] if c > 0 else (-radius[i, j] if c < 0 else zero)
                found[i, r, j] = first * middle[i, j] + second * signed


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _of_box(values, of_middle, of_radius, middle, radius):  # type: ignore[no-untyped-def]
    """Its slopes at ``middle`` and ``radius``."""
    for i in range(values.shape[0]):
        for r in range(values.shape[1]):
            first, second = of_middle[i, r], of_radius[i, r]
            for j in range(values.shape[2]):
                middle[i, j] += first * values[i, r, j]
            for j in range(values.shape[2]):
                radius[i, j] += second * abs(values[i, r, j])


@numba.njit(nogil=True, cache=True, fastmath={"reassoc"}, error_model="numpy")
def _products(weight, middle, radius, centre, spread):  # type: ignore[no-untyped-def]
    zero = weight.dtype.type(0)
    for i in range(weight.shape[0]):
        for o in range(weight.shape[1]):
            first, second = zero, zero
            for j in range(weight.shape[2]):
                w = weight[i, o, j]
                first += w * middle[i, j]
                second += abs(w) * radius[i, j]
            centre[i, o], spread[i, o] = first, second
