"""What bounds do to large arrays element by element, in one pass over them, forward and backward.

As tensor operations each takes several passes, and every one of them asks the system for fresh
memory, which costs more than the arithmetic.
"""

from __future__ import annotations

from typing import Any

import numba
import torch
from torch import Tensor


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
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, middle, radius = ctx.saved_tensors
        of_rows = rows.new_empty(rows.shape)
        of_middle, of_radius = torch.zeros_like(middle), torch.zeros_like(radius)
        _least_back(
            _flat(rows, 2), _flat(middle, 1), _flat(radius, 1), _flat(grads[0], 1),
            of_rows.numpy(), of_middle.numpy(), of_radius.numpy(),
        )  # fmt: skip
        return of_rows, of_middle, of_radius


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
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight, middle, radius = ctx.saved_tensors
        of_weight = weight.new_empty(weight.shape)
        of_middle, of_radius = torch.zeros_like(middle), torch.zeros_like(radius)
        _products_back(
            _flat(weight, 2), _flat(middle, 1), _flat(radius, 1),
            _flat(grads[0], 1), _flat(grads[1], 1),
            of_weight.numpy(), of_middle.numpy(), of_radius.numpy(),
        )  # fmt: skip
        return of_weight, of_middle, of_radius


def _flat(values: Tensor, axes: int) -> Any:
    return values.detach().contiguous().flatten(axes).numpy()


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
    zero, one = rows.dtype.type(0), rows.dtype.type(1)
    for i in range(of_out.shape[0]):
        own = i if rows.shape[0] > 1 else 0
        for r in range(of_out.shape[1]):
            constant = of_add[i, r]
            for j in range(of_out.shape[2]):
                c, g = rows[own, r, j], of_out[i, r, j]
                negative = one if c < 0 else zero
                slope = low[i, j] + negative * (up[i, j] - low[i, j])
                of_rows[i, r, j] = g * slope + constant * negative * shift[i, j]
                whole = g * c
                below = whole * negative
                of_up[i, j] += below
                of_low[i, j] += whole - below
                of_shift[i, j] += constant * negative * c


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
def _least_back(  # type: ignore[no-untyped-def]
    rows, middle, radius, of_found, of_rows, of_middle, of_radius
):
    zero = rows.dtype.type(0)
    for i in range(rows.shape[0]):
        for r in range(rows.shape[1]):
            g = of_found[i, r]
            for j in range(rows.shape[2]):
                c = rows[i, r, j]
                signed = radius[i, j] if c > 0 else (-radius[i, j] if c < 0 else zero)
                of_rows[i, r, j] = g * (middle[i, j] - signed)
                of_middle[i, j] += g * c
                of_radius[i, j] -= g * abs(c)


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


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _products_back(  # type: ignore[no-untyped-def]
    weight, middle, radius, of_centre, of_spread, of_weight, of_middle, of_radius
):
    zero = weight.dtype.type(0)
    for i in range(weight.shape[0]):
        for o in range(weight.shape[1]):
            first, second = of_centre[i, o], of_spread[i, o]
            for j in range(weight.shape[2]):
                w = weight[i, o, j]
                signed = radius[i, j] if w > 0 else (-radius[i, j] if w < 0 else zero)
                of_weight[i, o, j] = first * middle[i, j] + second * signed
                of_middle[i, j] += first * w
                of_radius[i, j] += second * abs(w)
