"""Compiled: what every program changes of a linear head's logits, and the gradient of that.

Programs become straight lines over registers, rows of consecutive samples: first the features that
any program touches, then one register a step, then the program's constants. Every value is written
once, so that the backward pass reads what the forward pass wrote. Samples come in blocks that stay
in cache; nothing is added up over samples but the weight's gradient, in float64. No fast-math.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from suture.repairs.defensyn.language import Constant, Opcode, Operand, Program

BLOCK = 64
_jit = numba.njit(cache=True, error_model="numpy", nogil=True)


@dataclass(frozen=True, eq=False)
class StraightLinePrograms:
    """K programs as straight lines; steps whose values nothing reads are left out.

    Registers ``0 … t-1`` are the touched features, then come ``length`` steps, then constants.

    Attributes:
        touched: int64 ``(t,)``, the features in the order of their registers.
        steps: int32 ``(k, length, 4)``: operation (-1 pads), left, right and old register.
        constants: float32 ``(k, c)``.
        changes: int32 ``(k, length, 2)``, in the order of first writes: the register of a written
            feature (-1 pads), and the register of what it becomes.
    """

    touched: NDArray[np.int64]
    steps: NDArray[np.int32]
    constants: NDArray[np.float32]
    changes: NDArray[np.int32]

    @staticmethod
    def of(programs: tuple[Program, ...]) -> StraightLinePrograms:
        """Resolve every read to the register that holds the value."""
        touched = sorted(frozenset().union(*(p.writes | p.reads for p in programs)))
        length = max(len(program) for program in programs)
        steps = np.full((len(programs), length, 4), -1, np.int32)
        constants = np.zeros((len(programs), 2 * length), np.float32)
        changes = np.full((len(programs), length, 2), -1, np.int32)
        for row, program in enumerate(programs):
            line = _Line({feature: i for i, feature in enumerate(touched)}, length)
            line.resolve(program)
            live = line.live()
            steps[row, : len(live)] = live
            constants[row, : len(line.constants)] = line.constants
            for slot, feature in enumerate(line.written):
                changes[row, slot] = line.first[feature], line.written[feature]
        return StraightLinePrograms(np.array(touched, np.int64), steps, constants, changes)


class _Line:
    """One program while its reads are resolved."""

    def __init__(self, registers: dict[int, int], length: int) -> None:
        self.first, self.length = registers, length
        self.written: dict[int, int] = {}
        self.constants: list[float] = []
        self.steps: list[tuple[int, int, int, int]] = []

    def resolve(self, program: Program) -> None:
        for step, instruction in enumerate(program.instructions):
            left = self._register(instruction.left)
            right = left if instruction.right is None else self._register(instruction.right)
            old = self._latest(instruction.target)
            self.steps.append((int(instruction.op), left, right, old))
            self.written[instruction.target] = len(self.first) + step

    def live(self) -> list[tuple[int, int, int, int]]:
        """The steps, with a -2 for the operation of those that no written feature depends on."""
        needed = set(self.written.values())
        made = []
        for step in reversed(range(len(self.steps))):
            op, left, right, old = self.steps[step]
            alive = len(self.first) + step in needed
            if alive:
                needed |= {left, right, old} if op == Opcode.DIV else {left, right}
            made.append((op if alive else -2, left, right, old))
        return made[::-1]

    def _latest(self, feature: int) -> int:
        return self.written.get(feature, self.first[feature])

    def _register(self, operand: Operand) -> int:
        if not isinstance(operand, Constant):
            return self._latest(operand.index)
        self.constants.append(operand.value)
        return len(self.first) + self.length + len(self.constants) - 1


@_jit
def _write(op, a, b, old, out):  # type: ignore[no-untyped-def]
    """One instruction over a block; maxima and minima hand on NaN, as torch's do."""
    n = len(out)
    if op == 0:
        for i in range(n):
            out[i] = a[i]
    elif op == 1:
        for i in range(n):
            out[i] = a[i] + b[i]
    elif op == 2:
        for i in range(n):
            out[i] = a[i] - b[i]
    elif op == 3:
        for i in range(n):
            out[i] = a[i] * b[i]
    elif op == 4:
        for i in range(n):
            out[i] = old[i] if b[i] == 0 else a[i] / b[i]
    elif op == 5:
        for i in range(n):
            out[i] = a[i] if (a[i] > b[i]) | (a[i] != a[i]) else b[i]
    else:
        for i in range(n):
            out[i] = a[i] if (a[i] < b[i]) | (a[i] != a[i]) else b[i]


@_jit
def _reverse(op, a, b, d, to_a, to_b, to_old):  # type: ignore[no-untyped-def]
    """Hand the gradient ``d`` of one instruction's value on to what it read."""
    n, zero, half = len(d), np.float32(0.0), np.float32(0.5)
    if op == 0:
        for i in range(n):
            to_a[i] += d[i]
    elif op == 1:
        for i in range(n):
            to_a[i] += d[i]
        for i in range(n):
            to_b[i] += d[i]
    elif op == 2:
        for i in range(n):
            to_a[i] += d[i]
        for i in range(n):
            to_b[i] -= d[i]
    elif op == 3:
        for i in range(n):
            to_a[i] += d[i] * b[i]
        for i in range(n):
            to_b[i] += d[i] * a[i]
    elif op == 4:
        for i in range(n):
            to_a[i] += zero if b[i] == 0 else d[i] / b[i]
        for i in range(n):
            to_b[i] -= zero if b[i] == 0 else d[i] * ((a[i] / b[i]) / b[i])
        for i in range(n):
            to_old[i] += d[i] if b[i] == 0 else zero
    else:
        sign = np.float32(1.0) if op == 5 else np.float32(-1.0)
        for i in range(n):
            share = half if a[i] == b[i] else np.float32(1.0)
            to_a[i] += zero if sign * a[i] < sign * b[i] else share * d[i]
        for i in range(n):
            share = half if a[i] == b[i] else np.float32(1.0)
            to_b[i] += zero if sign * a[i] > sign * b[i] else share * d[i]


@_jit
def _gather(features, touched, start, registers, n):  # type: ignore[no-untyped-def]
    for i in range(n):
        for t in range(len(touched)):
            registers[t, i] = features[start + i, touched[t]]


@_jit
def _run(steps, constants, count, registers, n):  # type: ignore[no-untyped-def]
    """One program on one block: fills its registers."""
    length = len(steps)
    for c in range(len(constants)):
        registers[count + length + c, :n] = constants[c]
    for t in range(length):
        op = steps[t, 0]
        if op == -1:
            break
        if op >= 0:
            a, b, old = steps[t, 1], steps[t, 2], steps[t, 3]
            out = registers[count + t, :n]
            _write(op, registers[a, :n], registers[b, :n], registers[old, :n], out)


@_jit
def forward(  # type: ignore[no-untyped-def]
    plain, features, weight, touched, steps, constants, changes, first, last, out
):
    """``out[k, j] = plain[j] + Σ_i W[:, i]·(v'_i - v_i)``, added in the order of first writes.

    Args:
        plain, features: ``(n, classes)``, ``(n, m)``. weight: ``(t, classes)``, by register.
        first, last: which samples. out: ``(k, n, classes)``.
    """
    count, classes, length = len(touched), plain.shape[1], steps.shape[1]
    registers = np.empty((count + length + constants.shape[1], BLOCK), np.float32)
    base, made = np.empty((classes, BLOCK), np.float32), np.empty((classes, BLOCK), np.float32)
    delta = np.empty(BLOCK, np.float32)
    for start in range(first, last, BLOCK):
        n = min(BLOCK, last - start)
        _gather(features, touched, start, registers, n)
        for i in range(n):
            for c in range(classes):
                base[c, i] = plain[start + i, c]
        for k in range(len(steps)):
            _run(steps[k], constants[k], count, registers, n)
            made[:, :] = base
            for s in range(length):
                f = changes[k, s, 0]
                if f < 0:
                    break
                _subtract(registers[changes[k, s, 1], :n], registers[f, :n], delta[:n])
                for c in range(classes):
                    _add_times(weight[f, c], delta[:n], made[c, :n])
            for i in range(n):
                for c in range(classes):
                    out[k, start + i, c] = made[c, i]


@_jit
def _subtract(new, old, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] = new[i] - old[i]


@_jit
def _add_times(w, delta, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] = out[i] + w * delta[i]


@_jit
def _add(part, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] += part[i]


@_jit
def _dot(a, b):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(len(a)):
        total += np.float64(a[i]) * np.float64(b[i])
    return total


@_jit
def backward(  # type: ignore[no-untyped-def]
    slope,
    features,
    weight,
    touched,
    steps,
    constants,
    changes,
    first,
    last,
    to_plain,
    to_features,
    to_weight,
):
    """The gradients of ``forward``, reverse through every program.

    Args:
        slope: ``(k, n, classes)``, the gradient of what ``forward`` made.
        to_plain, to_features: ``(n, classes)`` and ``(n, m)``, zero at first.
        to_weight: float64 ``(t, classes)``, to be added to; empty where it is not wanted.
    """
    count, classes, length = len(touched), weight.shape[1], steps.shape[1]
    rows = count + length + constants.shape[1]
    registers, to = np.empty((rows, BLOCK), np.float32), np.empty((rows, BLOCK), np.float32)
    own, total = np.empty((classes, BLOCK), np.float32), np.empty((classes, BLOCK), np.float32)
    part = np.empty(BLOCK, np.float32)
    for start in range(first, last, BLOCK):
        n = min(BLOCK, last - start)
        _gather(features, touched, start, registers, n)
        to[:count], total[:, :] = np.float32(0.0), np.float32(0.0)
        for k in range(len(steps)):
            _run(steps[k], constants[k], count, registers, n)
            for i in range(n):
                for c in range(classes):
                    own[c, i] = slope[k, start + i, c]
            for c in range(classes):
                _add(own[c, :n], total[c, :n])
            to[count:] = np.float32(0.0)
            for s in range(length):
                f, new = changes[k, s, 0], changes[k, s, 1]
                if f < 0:
                    break
                part[:] = np.float32(0.0)
                for c in range(classes):
                    _add_times(weight[f, c], own[c, :n], part[:n])
                _add(part[:n], to[new, :n])
                _subtract(to[f, :n], part[:n], to[f, :n])
                if len(to_weight):
                    _subtract(registers[new, :n], registers[f, :n], part[:n])
                    for c in range(classes):
                        to_weight[f, c] += _dot(part[:n], own[c, :n])
            _unwind(steps[k], count, registers, to, n)
        for i in range(n):
            for c in range(classes):
                to_plain[start + i, c] = total[c, i]
            for t in range(count):
                to_features[start + i, touched[t]] = to[t, i]


@_jit
def _unwind(steps, count, registers, to, n):  # type: ignore[no-untyped-def]
    for t in range(len(steps) - 1, -1, -1):
        op, a, b, old = steps[t, 0], steps[t, 1], steps[t, 2], steps[t, 3]
        if op >= 0:
            read = (registers[a, :n], registers[b, :n])
            _reverse(op, *read, to[count + t, :n], to[a, :n], to[b, :n], to[old, :n])
