"""The language of repair programs: assignments over features, as data and as text.

Grammar (DefEnSyn, section 3): ``P ::= A | P; P``, ``A ::= v_i = d | v_i = op(d, d)`` with
``op ∈ {+, -, *, /, max, min}`` and ``d ::= v_j | constant``. Instructions run in order and see
earlier writes. Where a divisor is 0 the instruction is skipped for that input.

>>> print(parse("v3 = v100 + 3.267; v136 = max(v2, -1)"))
v3 = v100 + 3.267; v136 = max(v2, -1.0)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from suture import notebook
from suture.errors import ProgramError


class Opcode(IntEnum):
    """What an instruction does with its operands; ``COPY`` has one."""

    COPY = 0
    ADD = 1
    SUB = 2
    MUL = 3
    DIV = 4
    MAX = 5
    MIN = 6


_SYMBOLS = {Opcode.ADD: "+", Opcode.SUB: "-", Opcode.MUL: "*", Opcode.DIV: "/"}
_BY_SYMBOL = {symbol: op for op, symbol in _SYMBOLS.items()}
_OPERAND = r"v\d+|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_COPY = re.compile(rf"v(\d+)\s*=\s*({_OPERAND})")
_INFIX = re.compile(rf"v(\d+)\s*=\s*({_OPERAND})\s*([-+*/])\s*({_OPERAND})")
_CALL = re.compile(rf"v(\d+)\s*=\s*(max|min)\s*\(\s*({_OPERAND})\s*,\s*({_OPERAND})\s*\)")


@dataclass(frozen=True)
class Feature:
    """Feature ``v_index``, counted from 0."""

    index: int

    def __str__(self) -> str:
        return f"v{self.index}"


@dataclass(frozen=True)
class Constant:
    """A number, held in float32 as the classifier computes."""

    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(np.float32(self.value)))

    def __str__(self) -> str:
        return str(np.float32(self.value))


Operand = Feature | Constant


@dataclass(frozen=True)
class Instruction:
    """``v_target = left`` (COPY) or ``v_target = op(left, right)``."""

    target: int
    op: Opcode
    left: Operand
    right: Operand | None = None

    def __str__(self) -> str:
        if self.op is Opcode.COPY:
            return f"v{self.target} = {self.left}"
        if self.op in _SYMBOLS:
            return f"v{self.target} = {self.left} {_SYMBOLS[self.op]} {self.right}"
        return f"v{self.target} = {self.op.name.lower()}({self.left}, {self.right})"

    @property
    def reads(self) -> frozenset[int]:
        """Features on the right-hand side."""
        return frozenset(o.index for o in (self.left, self.right) if isinstance(o, Feature))


@dataclass(frozen=True)
class Program:
    """One or more instructions, run in order."""

    instructions: tuple[Instruction, ...]

    def __str__(self) -> str:
        return "; ".join(str(instruction) for instruction in self.instructions)

    def __len__(self) -> int:
        return len(self.instructions)

    def _repr_html_(self) -> str:
        """For notebooks: one row an instruction."""
        rows = [(number, one) for number, one in enumerate(self.instructions, 1)]
        return notebook.table("repair program", ("", "instruction"), rows)

    @property
    def writes(self) -> frozenset[int]:
        """The set of repaired features; synthesis keeps one program per such set."""
        return frozenset(instruction.target for instruction in self.instructions)

    @property
    def reads(self) -> frozenset[int]:
        """The set of repairing features."""
        return frozenset().union(*(instruction.reads for instruction in self.instructions))


def parse(text: str) -> Program:
    """The program that a text denotes; ``parse(str(program)) == program``.

    Raises:
        ProgramError: names the instruction that does not follow the grammar.
    """
    parts = [part.strip() for part in text.strip().rstrip(";").split(";")]
    return Program(tuple(_instruction(part, position) for position, part in enumerate(parts, 1)))


def _instruction(text: str, position: int) -> Instruction:
    if match := _COPY.fullmatch(text):
        return Instruction(int(match[1]), Opcode.COPY, _operand(match[2]))
    if match := _INFIX.fullmatch(text):
        op = _BY_SYMBOL[match[3]]
        return Instruction(int(match[1]), op, _operand(match[2]), _operand(match[4]))
    if match := _CALL.fullmatch(text):
        op = Opcode[match[2].upper()]
        return Instruction(int(match[1]), op, _operand(match[3]), _operand(match[4]))
    raise ProgramError(
        expected="an instruction like 'v3 = v100 + 3.267', 'v1 = -2' or 'v2 = max(v7, 1)'",
        got=f"{text[:60]!r} as instruction {position}",
        remedy="Operators are + - * / max min, operands are features v0, v1, … or numbers.",
    )


def _operand(text: str) -> Operand:
    return Feature(int(text[1:])) if text.startswith("v") else _constant(text)


def _constant(text: str) -> Constant:
    with np.errstate(over="ignore"):
        constant = Constant(float(text))
    if not np.isfinite(constant.value):
        raise ProgramError(
            expected="a constant that float32 can hold",
            got=text,
            remedy="Use a smaller number.",
        )
    return constant


def check_features(program: Program, features: int) -> None:
    """Raise ``ProgramError`` unless the program stays within ``v0 … v{features - 1}``."""
    highest = max(program.writes | program.reads)
    if highest >= features:
        raise ProgramError(
            expected=f"features v0 to v{features - 1}",
            got=f"v{highest}",
            remedy="The program was made for another model or another cut.",
        )
