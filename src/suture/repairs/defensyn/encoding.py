"""Programs as arrays: the form in which millions of them are sampled and scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suture.repairs.defensyn.language import (
    Constant,
    Feature,
    Instruction,
    Opcode,
    Operand,
    Program,
)

NOTHING = -1
"""Operation of a padding row, and index of an operand that is a constant."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """``p`` programs of up to ``length`` instructions; every array is ``(p, length)``.

    Attributes:
        target: int32, the written feature.
        op: int32, an ``Opcode``; -1 pads shorter programs.
        left, right: int32, feature read, or -1 for the constant beside it.
        left_constant, right_constant: float32.
    """

    target: NDArray[np.int32]
    op: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    left_constant: NDArray[np.float32]
    right_constant: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.target)

    @property
    def arrays(self) -> tuple[NDArray, ...]:
        """All arrays, in the order of the fields."""
        return (
            self.target,
            self.op,
            self.left,
            self.right,
            self.left_constant,
            self.right_constant,
        )

    def program(self, row: int) -> Program:
        """The program in that row."""
        used = self.op[row] != NOTHING
        rows = zip(*(array[row][used].tolist() for array in self.arrays), strict=True)
        return Program(tuple(_decode(*values) for values in rows))


def _decode(
    target: int, op: int, left: int, right: int, left_constant: float, right_constant: float
) -> Instruction:
    first = _operand(left, left_constant)
    if op == Opcode.COPY:
        return Instruction(target, Opcode.COPY, first)
    return Instruction(target, Opcode(op), first, _operand(right, right_constant))


def _operand(index: int, constant: float) -> Operand:
    return Constant(constant) if index == NOTHING else Feature(index)


def empty(count: int, length: int) -> Encoded:
    """Room for ``count`` programs, all padding."""
    shape = (count, length)
    return Encoded(
        target=np.zeros(shape, np.int32),
        op=np.full(shape, NOTHING, np.int32),
        left=np.full(shape, NOTHING, np.int32),
        right=np.full(shape, NOTHING, np.int32),
        left_constant=np.zeros(shape, np.float32),
        right_constant=np.zeros(shape, np.float32),
    )


def encode(programs: list[Program] | tuple[Program, ...]) -> Encoded:
    """Programs as arrays, padded to the longest."""
    encoded = empty(len(programs), max(len(program) for program in programs))
    for row, program in enumerate(programs):
        for step, instruction in enumerate(program.instructions):
            _write(encoded, row, step, instruction)
    return encoded


def _write(encoded: Encoded, row: int, step: int, instruction: Instruction) -> None:
    encoded.target[row, step] = instruction.target
    encoded.op[row, step] = instruction.op
    operands = (
        (instruction.left, encoded.left, encoded.left_constant),
        (
            instruction.right,
            encoded.right,
            encoded.right_constant,
        ),
    )
    for operand, index, constant in operands:
        if isinstance(operand, Feature):
            index[row, step] = operand.index
        elif isinstance(operand, Constant):
            constant[row, step] = operand.value
