"""A linear or mixed-integer linear program, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from suture.errors import ArgumentError


@dataclass(frozen=True, eq=False)
class Problem:
    """``minimise c·x  subject to  row_lower <= A x <= row_upper, lower <= x <= upper``.

    Args:
        cost: c, float64 ``(n,)``.
        lower, upper: float64 ``(n,)``; infinite where there is no bound.
        matrix: A, float64 ``(m, n)``, dense or any SciPy sparse form; kept as CSR.
        row_lower, row_upper: float64 ``(m,)``.
        integer: bool ``(n,)``, which variables are integers; none if left out.

    Raises:
        ArgumentError: shapes that do not fit, a NaN, or an infinite cost or coefficient.
    """

    cost: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    matrix: Any
    row_lower: np.ndarray
    row_upper: np.ndarray
    integer: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def __post_init__(self) -> None:
        for name in ("cost", "lower", "upper", "row_lower", "row_upper"):
            value = np.ascontiguousarray(getattr(self, name), dtype=np.float64)
            object.__setattr__(self, name, value)
        object.__setattr__(self, "matrix", sparse.csr_array(self.matrix, dtype=np.float64))
        n = len(self.cost)
        whole = np.asarray(self.integer, dtype=bool)
        object.__setattr__(self, "integer", whole if len(whole) else np.zeros(n, dtype=bool))
        self._check(n)

    def _check(self, n: int) -> None:
        m = len(self.row_lower)
        shapes = {
            "lower": (self.lower.shape, (n,)),
            "upper": (self.upper.shape, (n,)),
            "matrix": (self.matrix.shape, (m, n)),
            "row_upper": (self.row_upper.shape, (m,)),
            "integer": (self.integer.shape, (n,)),
        }
        for name, (got, expected) in shapes.items():
            if got != expected:
                raise ArgumentError(
                    expected=f"{name} of shape {expected}",
                    got=f"shape {got}",
                    remedy="One entry per variable (cost) or per row (row_lower).",
                )
        finite = np.isfinite(self.cost).all() and np.isfinite(self.matrix.data).all()
        bounds = (self.lower, self.upper, self.row_lower, self.row_upper)
        if not finite or any(np.isnan(bound).any() for bound in bounds):
            raise ArgumentError(
                expected="finite costs and coefficients, and bounds without NaN",
                got="a NaN or an infinite value",
                remedy="Check the numbers that the program was made from.",
            )

    @property
    def is_mixed(self) -> bool:
        """Whether any variable is an integer."""
        return bool(self.integer.any())

    def value(self, x: np.ndarray) -> float:
        """``c·x``."""
        return float(self.cost @ x)

    def violation(self, x: np.ndarray) -> float:
        """The largest amount by which ``x`` breaks a bound, a row, or integrality."""
        activity = self.matrix @ x
        broken = [
            self.lower - x,
            x - self.upper,
            self.row_lower - activity,
            activity - self.row_upper,
            np.abs(x - np.round(x))[self.integer],
        ]
        return max((float(part.max()) for part in broken if part.size), default=0.0)


def rows(*parts: tuple[Any, Any, Any]) -> tuple[Any, np.ndarray, np.ndarray]:
    """``(matrix, lower, upper)`` parts one below the other; scalars and lists are widened.

    >>> matrix, lower, upper = rows(([[1.0, 2.0]], 0.0, np.inf), ([[0.0, 1.0]], -1.0, 3.0))
    >>> matrix.shape, lower.tolist()
    ((2, 2), [0.0, -1.0])
    """
    blocks = [sparse.csr_array(part[0], dtype=np.float64) for part in parts]
    bounds = [
        np.concatenate(
            [
                np.broadcast_to(np.asarray(part[side], dtype=np.float64), (block.shape[0],))
                for part, block in zip(parts, blocks, strict=True)
            ]
        )
        for side in (1, 2)
    ]
    return sparse.vstack(blocks, format="csr"), bounds[0], bounds[1]
