"""Running programs on feature vectors: one program on all rows, or one program per row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from suture.repairs.defensyn.encoding import NOTHING, encode
from suture.repairs.defensyn.language import Constant, Instruction, Opcode, Operand, Program


def run_program(program: Program, features: Tensor) -> tuple[Tensor, bool]:
    """One program on every row: the language's meaning, written as plainly as possible.

    Args:
        features: float ``(n, m)``; not changed.

    Returns:
        The repaired features, and whether every value written was finite.
    """
    values, finite = features.clone(), True
    for instruction in program.instructions:
        written = _evaluate(instruction, lambda index: values[:, index])
        finite = finite and bool(torch.isfinite(written).all())
        values[:, instruction.target] = written
    return values, finite


def written_columns(program: Program, features: Tensor) -> dict[int, Tensor]:
    """What one program makes of the features it writes: feature to column ``(n,)``.

    The same values as ``run_program`` gives, without a copy of all the others; differentiable.
    """
    columns: dict[int, Tensor] = {}

    def read(index: int) -> Tensor:
        return columns[index] if index in columns else features[:, index]

    for instruction in program.instructions:
        columns[instruction.target] = _evaluate(instruction, read)
    return columns


def _evaluate(instruction: Instruction, read: Callable[[int], Tensor]) -> Tensor:
    old = read(instruction.target)
    left = _value(instruction.left, read, old)
    if instruction.op is Opcode.COPY or instruction.right is None:
        return left
    right = _value(instruction.right, read, old)
    if instruction.op is Opcode.DIV:
        divisor = torch.where(right == 0, torch.ones_like(right), right)
        return torch.where(right == 0, old, left / divisor)
    return _BINARY[instruction.op](left, right)


_BINARY: dict[Opcode, Callable[[Tensor, Tensor], Tensor]] = {
    Opcode.ADD: torch.add,
    Opcode.SUB: torch.sub,
    Opcode.MUL: torch.mul,
    Opcode.MAX: torch.maximum,
    Opcode.MIN: torch.minimum,
}


def _value(operand: Operand, read: Callable[[int], Tensor], like: Tensor) -> Tensor:
    if isinstance(operand, Constant):
        return torch.full_like(like, operand.value)
    return read(operand.index)


class ProgramBank(nn.Module):
    """K programs as tensors; each row of the features runs the program that is chosen for it.

    Only gathers, scatters and selections: it can be exported, and runs on any device.
    """

    target: Tensor
    op: Tensor
    left: Tensor
    right: Tensor
    left_constant: Tensor
    right_constant: Tensor

    def __init__(self, programs: tuple[Program, ...]) -> None:
        super().__init__()
        self.programs = programs
        encoded = encode(programs)
        self.register_buffer("target", torch.from_numpy(encoded.target).long())
        self.register_buffer("op", torch.from_numpy(encoded.op).long())
        self.register_buffer("left", torch.from_numpy(encoded.left).long())
        self.register_buffer("right", torch.from_numpy(encoded.right).long())
        self.register_buffer("left_constant", torch.from_numpy(encoded.left_constant))
        self.register_buffer("right_constant", torch.from_numpy(encoded.right_constant))

    def forward(self, features: Tensor, choice: Tensor) -> Tensor:
        """Features ``(n, m)`` and program numbers ``(n,)`` to repaired features ``(n, m)``."""
        if not torch.is_grad_enabled():
            features = features.clone()
        for step in range(self.target.shape[1]):
            target, value = self._step(features, choice, step)
            if torch.is_grad_enabled():
                features = features.scatter(1, target, value)
            else:
                features.scatter_(1, target, value)
        return features

    def _step(self, features: Tensor, choice: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Which feature each row writes at this step, and the new value, each ``(n, 1)``."""
        arrays = (self.target, self.op, self.left, self.right)
        constants = (self.left_constant, self.right_constant)
        return row_step(features, *(array[choice, step] for array in (*arrays, *constants)))


def row_step(
    features: Tensor,
    target: Tensor,
    op: Tensor,
    left: Tensor,
    right: Tensor,
    left_constant: Tensor,
    right_constant: Tensor,
) -> tuple[Tensor, Tensor]:
    """One instruction per row: the feature it writes and the new value, each ``(n, 1)``.

    Args:
        features: ``(n, m)``.
        target, op, left, right: int64 ``(n,)``, in the encoding of ``Encoded``; where ``op`` is
            -1 the value is the old one.
        left_constant, right_constant: ``(n,)``.
    """
    target, op = target[:, None], op[:, None]
    old = features.gather(1, target)
    first = _pick(features, left, left_constant)
    second = _pick(features, right, right_constant)
    return target, select(op, first, second, old)


def select(op: Tensor, left: Tensor, right: Tensor, old: Tensor) -> Tensor:
    """The value of ``op(left, right)``, element by element; ``old`` where a divisor is 0.

    Only selections, so that it can be exported; the tensors broadcast against each other.
    """
    divisor = torch.where(right == 0, torch.ones_like(right), right)
    value = torch.where(op == Opcode.COPY, left, old)
    value = torch.where(op == Opcode.ADD, left + right, value)
    value = torch.where(op == Opcode.SUB, left - right, value)
    value = torch.where(op == Opcode.MUL, left * right, value)
    value = torch.where((op == Opcode.DIV) & (right != 0), left / divisor, value)
    value = torch.where(op == Opcode.MAX, torch.maximum(left, right), value)
    return torch.where(op == Opcode.MIN, torch.minimum(left, right), value)


def run_many(programs: tuple[Tensor, ...], features: Tensor) -> tuple[Tensor, Tensor]:
    """Each of p programs on every row: the features it leaves, and whether it stayed finite.

    Args:
        programs: the arrays of ``Encoded`` as tensors ``(p, length)`` on the features' device.
        features: float ``(n, m)``; not changed.

    Returns:
        ``(p, n, m)``, and bool ``(p,)``. The same values as ``run_program``, program by program.
    """
    count, (n, m) = len(programs[0]), features.shape
    values = features.repeat(count, 1)
    finite = torch.ones(count, dtype=torch.bool, device=features.device)
    for step in range(programs[0].shape[1]):
        arrays = (array[:, step].repeat_interleave(n) for array in programs)
        target, written = row_step(values, *arrays)
        used = programs[1][:, step] != NOTHING
        finite &= torch.isfinite(written).reshape(count, n).all(1) | ~used
        values.scatter_(1, target, written)
    return values.reshape(count, n, m), finite


def _pick(features: Tensor, index: Tensor, constant: Tensor) -> Tensor:
    read = features.gather(1, index.clamp_min(0)[:, None])
    return torch.where(index[:, None] < 0, constant[:, None].to(features.dtype), read)
