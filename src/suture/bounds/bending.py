"""Pulling coefficients through a ReLU in one pass over them, forward and backward.

As tensor operations it takes a dozen passes, each of which asks the system for fresh memory: 15
times the time on a processor.
"""

from __future__ import annotations

from typing import Any

import numba
import torch
from torch import Tensor


def fits(rows: Tensor, low: Tensor, up: Tensor, shift: Tensor) -> bool:
    """Whether ``bend`` can do it: lines that an example's rows share, plain numbers in main
    memory."""
    return (
        rows.device.type == "cpu"
        and rows.dtype in (torch.float32, torch.float64)
        and rows.dtype == low.dtype == up.dtype == shift.dtype
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
        _forward(*given, out.flatten(2).numpy(), add.numpy())
        return out, add

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, up, shift = ctx.saved_tensors
        given = _flat(rows, 2), _flat(low, 1), _flat(up, 1), _flat(shift, 1)
        of_rows = rows.new_empty(len(low), *rows.shape[1:])
        of_lines = [torch.zeros_like(low, memory_format=torch.contiguous_format) for _ in range(3)]
        _backward(
            *given, _flat(grads[0], 2), grads[1].detach().contiguous().numpy(),
            of_rows.flatten(2).numpy(), *(t.flatten(1).numpy() for t in of_lines),
        )  # fmt: skip
        if len(rows) < len(low):
            of_rows = of_rows.sum(0, keepdim=True)
        return of_rows, *of_lines


def _flat(values: Tensor, axes: int) -> Any:
    return values.detach().contiguous().flatten(axes).numpy()


@numba.njit(nogil=True, cache=True, fastmath={"reassoc"}, error_model="numpy")
def _forward(rows, low, up, shift, out, add):  # type: ignore[no-untyped-def]
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
def _backward(  # type: ignore[no-untyped-def]
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
