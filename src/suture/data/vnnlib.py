"""VNN-LIB properties: where the inputs may lie, and which outputs are counterexamples.

The part of SMT-LIB that verification competitions use (VNN-LIB 1.0, https://www.vnnlib.org):
``declare-const`` of reals ``X_i`` and ``Y_j``, and ``assert`` of linear comparisons under ``and``
and ``or``. An assertion speaks of inputs or of outputs; comparisons of inputs bound one variable.
Strict comparisons are read as their closure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from suture.data.reading import reading
from suture.errors import DataError

_TOKEN = re.compile(r"[()]|[^\s()]+")
_VARIABLE = re.compile(r"[XY]_\d+")
_DEEPEST = 200
_MOST_CASES = 100_000
Linear = dict[str, float]
"""Coefficients by variable; the constant under the empty name."""


@dataclass(frozen=True, eq=False)
class Property:
    """A property of a network ``y = f(x)``; ``x`` and ``y`` are flat.

    Attributes:
        boxes: ``(lower, upper)``, float64 ``(inputs,)`` each; the inputs lie in one of them.
        unsafe: ``(A, b)``, float64 ``(rows, outputs)`` and ``(rows,)``; an output is a
            counterexample if ``A y <= b`` holds, all rows, for one of them.
    """

    boxes: tuple[tuple[np.ndarray, np.ndarray], ...]
    unsafe: tuple[tuple[np.ndarray, np.ndarray], ...]

    def violated_by(self, outputs: np.ndarray) -> np.ndarray:
        """Bool ``(n,)``: which of the outputs ``(n, outputs)`` are counterexamples."""
        hits = [(outputs @ a.T <= b).all(axis=1) for a, b in self.unsafe]
        return np.logical_or.reduce(hits)

    def admits(self, inputs: np.ndarray) -> np.ndarray:
        """Bool ``(n,)``: which of the inputs ``(n, inputs)`` lie in one of the boxes."""
        hits = [((inputs >= low) & (inputs <= high)).all(axis=1) for low, high in self.boxes]
        return np.logical_or.reduce(hits)


def read_vnnlib(path: str | Path) -> Property:
    """The property in a file.

    Raises:
        DataError: no such file, not VNN-LIB, an assertion that mixes inputs and outputs or bounds
            a sum of inputs, or an input without lower or upper bound.
    """
    path = Path(path)
    with reading(path, "a VNN-LIB property"):
        return parse_vnnlib(path.read_text(encoding="utf-8"))


def parse_vnnlib(text: str) -> Property:
    """The property in the text of a VNN-LIB file; see ``read_vnnlib``."""
    inputs, outputs = 0, 0
    cases: dict[str, list[Case]] = {"X": [()], "Y": [()]}
    for command in _expressions(text):
        match command:
            case ["declare-const", str(name), "Real"] if _VARIABLE.fullmatch(name):
                inputs += name[0] == "X"
                outputs += name[0] == "Y"
            case ["assert", formula]:
                found = _cases(formula)
                kind = _kind(found)
                cases[kind] = _both(cases[kind], found)
            case _:
                raise _bad("declare-const of X_i or Y_j as Real, or assert", command)
    boxes = tuple(_box(case, inputs) for case in cases["X"])
    unsafe = tuple(_system(case, outputs) for case in cases["Y"])
    return Property(tuple(box for box in boxes if (box[0] <= box[1]).all()), unsafe)


def _expressions(text: str) -> list[Any]:
    """Nested lists of words."""
    plain = "\n".join(line.partition(";")[0] for line in text.splitlines())
    stack: list[list[Any]] = [[]]
    for token in _TOKEN.findall(plain):
        if token == "(":
            stack.append([])
        elif token == ")":
            if len(stack) == 1:
                raise _bad("as many ( as )", "a ) without its (")
            closed = stack.pop()
            stack[-1].append(closed)
        else:
            stack[-1].append(token)
        if len(stack) > _DEEPEST:
            raise _bad(f"brackets nested at most {_DEEPEST} deep", "more")
    if len(stack) > 1:
        raise _bad("as many ( as )", "a ( without its )")
    return stack[0]


Case = tuple[Linear, ...]
"""A conjunction: every form of it is at most 0."""


def _cases(formula: Any) -> list[Case]:
    """The formula in disjunctive normal form."""
    match formula:
        case ["or", *parts]:
            return [case for part in parts for case in _cases(part)]
        case ["and", *parts]:
            found: list[Case] = [()]
            for part in parts:
                found = _both(found, _cases(part))
            return found
        case ["<=" | "<", left, right]:
            return [(_minus(_linear(left), _linear(right)),)]
        case [">=" | ">", left, right]:
            return [(_minus(_linear(right), _linear(left)),)]
        case ["=", left, right]:
            one, other = _linear(left), _linear(right)
            return [(_minus(one, other), _minus(other, one))]
    raise _bad("and, or, or a comparison", formula)


def _both(some: Iterable[Case], others: list[Case]) -> list[Case]:
    joined = [one + other for one, other in product(some, others)]
    if len(joined) > _MOST_CASES:
        raise _bad(f"at most {_MOST_CASES} cases", f"{len(joined)}")
    return joined


def _linear(term: Any) -> Linear:
    match term:
        case str() if _VARIABLE.fullmatch(term):
            return {term: 1.0}
        case str():
            return {"": _number(term)}
        case ["+", *parts] if parts:
            total: Linear = {}
            for part in parts:
                total = _minus(total, _scaled(_linear(part), -1.0))
            return total
        case ["-", only]:
            return _scaled(_linear(only), -1.0)
        case ["-", first, *rest]:
            total = _linear(first)
            for part in rest:
                total = _minus(total, _linear(part))
            return total
        case ["*", one, other]:
            left, right = _linear(one), _linear(other)
            if set(left) <= {""}:
                return _scaled(right, left.get("", 0.0))
            if set(right) <= {""}:
                return _scaled(left, right.get("", 0.0))
    raise _bad("a linear term of X_i, Y_j and numbers", term)


def _minus(one: Linear, other: Linear) -> Linear:
    return {name: one.get(name, 0.0) - other.get(name, 0.0) for name in {**one, **other}}


def _scaled(form: Linear, by: float) -> Linear:
    return {name: by * value for name, value in form.items()}


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _bad("a number or a variable", text) from None
    if not np.isfinite(value):
        raise _bad("a finite number", text)
    return value


def _kind(cases: list[Case]) -> str:
    """ "X" or "Y": what the assertion is about."""
    kinds = {name[0] for case in cases for form in case for name in form if name}
    if len(kinds) != 1:
        raise _bad("assertions about inputs alone or outputs alone", "one about both or neither")
    return kinds.pop()


def _box(case: Case, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    lower, upper = np.full(inputs, -np.inf), np.full(inputs, np.inf)
    for form in case:
        used = [name for name, value in form.items() if name and value]
        if len(used) != 1:
            raise _bad("bounds on one input at a time", f"a comparison of {', '.join(used)}")
        index, slope = _index(used[0], inputs), form[used[0]]
        bound = -form.get("", 0.0) / slope
        if slope > 0:
            upper[index] = min(upper[index], bound)
        else:
            lower[index] = max(lower[index], bound)
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        raise _bad("a lower and an upper bound for every input", "an input without")
    return lower, upper


def _system(case: Case, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    matrix, right = np.zeros((len(case), outputs)), np.zeros(len(case))
    for row, form in enumerate(case):
        for name, value in form.items():
            if name:
                matrix[row, _index(name, outputs)] += value
            else:
                right[row] -= value
    return matrix, right


def _index(name: str, count: int) -> int:
    index = int(name[2:])
    if index >= count:
        raise _bad(f"{name[0]}_0 to {name[0]}_{count - 1}, as declared", name)
    return index


def _bad(expected: str, got: Any) -> DataError:
    text = str(got)
    return DataError(
        expected=f"a VNN-LIB property with {expected}",
        got=text if len(text) < 120 else f"{text[:117]}...",
        remedy="See https://www.vnnlib.org for the form of such files.",
    )
