"""The exact logits under every program before a linear head, and their gradients.

``logits_k = W·v + b + Σ_i W[:, i]·(v'_i - v_i)``, the sum over the features that program k writes.
On the CPU in float32 that is compiled (``each_kernels``): the values that ``run_program`` writes
and the logits of ``changed``, bit for bit. ``changed`` is the plain twin, and the way for
other devices and dtypes, under tracing and function transforms, and for second derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from suture.repairs.defensyn import each_kernels
from suture.repairs.defensyn.each_kernels import BLOCK, StraightLinePrograms
from suture.repairs.defensyn.execution import written_columns
from suture.repairs.defensyn.language import Program

_WORTH = 10_000_000
"""Multiply-adds from which on several threads are worth their start."""


def changed(
    plain: Tensor, features: Tensor, weight: Tensor, programs: tuple[Program, ...]
) -> Tensor:
    """Logits ``(k, n, classes)`` under each program, as plainly as possible.

    Args:
        plain: ``(n, classes)``, logits of the unrepaired features.
        features: ``(n, m)``.
        weight: ``(classes, m)``, of the linear head.
    """
    made = []
    for program in programs:
        logits = plain
        for index, column in written_columns(program, features).items():
            logits = logits + (column - features[:, index])[:, None] * weight[:, index]
        made.append(logits)
    return torch.stack(made)


def compiles(*tensors: Tensor) -> bool:
    """Whether the compiled kernels can take these: plain float32 matrices on the CPU."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    if torch._C._are_functorch_transforms_active():
        return False
    return all(_plain(tensor) for tensor in tensors)


def _plain(tensor: Tensor) -> bool:
    usual = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.device.type == "cpu"
    usual = usual and tensor.dtype == torch.float32 and tensor.ndim == 2
    return usual and forward_ad.unpack_dual(tensor).tangent is None


class Changed(torch.autograd.Function):
    """``changed`` by the kernels: ``Changed.apply(plain, features, weight, programs, lines)``.

    Args:
        lines: of the same programs.
    """

    @staticmethod
    def forward(
        ctx: Any,
        plain: Tensor,
        features: Tensor,
        weight: Tensor,
        programs: tuple[Program, ...],
        lines: StraightLinePrograms,
    ) -> Tensor:
        ctx.save_for_backward(plain, features, weight)
        ctx.programs, ctx.lines = programs, lines
        out = plain.new_empty(len(programs), *plain.shape)
        arrays = (*map(_array, (plain, features)), *_of(lines, weight))
        _spread(
            lambda first, last: each_kernels.forward(*arrays, first, last, out.numpy()), out, lines
        )
        return out

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        plain, features, weight = ctx.saved_tensors
        (slope,) = slopes
        if torch.is_grad_enabled():
            return (*_again(ctx, plain, features, weight, slope), None, None)
        to_plain, to_features = torch.empty_like(plain), torch.zeros_like(features)
        lines: StraightLinePrograms = ctx.lines
        compact = _of(lines, weight)
        arrays = (*map(_array, (slope, features)), *compact)
        wanted = ctx.needs_input_grad[2]
        parts: list[np.ndarray] = []

        def work(first: int, last: int) -> None:
            part = np.zeros(compact[0].shape if wanted else (0, 0))
            parts.append(part)
            found = (to_plain.numpy(), to_features.numpy(), part)
            each_kernels.backward(*arrays, first, last, *found)

        _spread(work, slope, lines, alone=wanted)
        to_weight = None
        if wanted:
            to_weight = torch.zeros_like(weight)
            to_weight[:, lines.touched] = torch.from_numpy(sum(parts)).float().T
        return to_plain, to_features, to_weight, None, None


def _again(ctx: Any, *tensors: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients by the plain twin, themselves differentiable."""
    plain, features, weight, slope = tensors
    # Aliases: the plain logits depend on the features, and that way is not this function's.
    inputs = [tensor.view_as(tensor) for tensor in (plain, features, weight)]
    wanted = [t for t, need in zip(inputs, ctx.needs_input_grad, strict=False) if need]
    made = changed(inputs[0], inputs[1], inputs[2], ctx.programs)
    found = iter(torch.autograd.grad(made, wanted, slope, create_graph=True, allow_unused=True))
    return tuple(next(found) if need else None for need in ctx.needs_input_grad[:3])


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _of(lines: StraightLinePrograms, weight: Tensor) -> tuple[np.ndarray, ...]:
    """The weight by register, and the arrays of the lines."""
    compact = np.ascontiguousarray(weight.detach().numpy()[:, lines.touched].T)
    return compact, lines.touched, lines.steps, lines.constants, lines.changes


def _spread(
    work: Callable[[int, int], None],
    like: Tensor,
    lines: StraightLinePrograms,
    *,
    alone: bool = False,
) -> None:
    """``work(first, last)`` on all samples, over as many threads as torch may use.

    No sample's result depends on the split. Numba's own threads would not do: some of its teams
    serve one caller at a time, and attacks may run in several threads.
    """
    n = like.shape[1]
    blocks = -(-n // BLOCK)
    count = min(torch.get_num_threads(), blocks)
    if alone or count < 2 or like.numel() * lines.steps.shape[1] < _WORTH:
        work(0, n)
        return
    cuts = [min(n, blocks * i // count * BLOCK) for i in range(count + 1)]
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, cuts[:-1], cuts[1:]))
