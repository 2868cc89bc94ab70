"""The sparse input change as a mixed-integer program, and its linear relaxation.

A pixel may move towards the corner of its range that the property's gradient points to, or to the
opposite one: ``x + δ = clean + Σ_p (u_p t_p + v_p o_p)``, where t_p and o_p move its channels to
the two corners, ``0 <= u_p, v_p``, ``u_p + v_p <= M_p`` and ``M_p ∈ {0, 1}``. So x + δ stays inside
[0, 1].

The paper's objective ``min Σ M_p`` relaxes to ``min Σ (u_p + v_p)``: a basic solution of that
linear program has at most as many pixels strictly inside their range as it has tight rows, so it
is nearly the integer one. Channels of a colour pixel move together, or each is counted alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from suture.solvers import (
    Growing,
    PricedProgram,
    Problem,
    Solution,
    SolverStatus,
    cheapest_cover,
    rows,
    solve,
)
from suture.solvers.choosing import TOLERANCE
from suture.solvers.ordering import largest

_SLACK = 1e4
"""Cost of missing the property by one logit, in pixels: it is missed only where it must be."""
_BEGIN = 64
"""Columns that a program begins with, those that help the property most."""
_LEAST = 1e-7
"""Parts of a move below this are the solver's rounding."""


@dataclass(frozen=True, eq=False)
class PixelMoves:
    """Where each pixel of an image may go.

    Attributes:
        clean: ``(c, h, w)``.
        towards, away: ``(c, h, w)``, change of each channel at the two corners.
        together: whether the channels of a pixel move as one.
    """

    clean: np.ndarray
    towards: np.ndarray
    away: np.ndarray
    together: bool

    @staticmethod
    def of(clean: np.ndarray, gradient: np.ndarray, most: float, together: bool) -> PixelMoves:
        """Moves of at most ``most`` per channel, inside [0, 1]; "towards" follows the gradient."""
        up, down = np.minimum(1.0 - clean, most), -np.minimum(clean, most)
        rising = gradient >= 0
        return PixelMoves(clean, np.where(rising, up, down), np.where(rising, down, up), together)

    def only(self, chosen: np.ndarray) -> PixelMoves:
        """Moves of some pixels ``(1 or c, h, w)``; the others stay."""
        towards, away = (np.where(chosen, side, 0.0) for side in (self.towards, self.away))
        return PixelMoves(self.clean, towards, away, self.together)

    @property
    def pixels(self) -> int:
        """How many pixels there are to count."""
        return self.clean[0].size if self.together else self.clean.size

    def columns(self, gradients: np.ndarray) -> np.ndarray:
        """Effect of every full move on linear forms ``(k, c, h, w)``, as ``(k, 2·pixels)``."""
        k = len(gradients)
        sides = [
            (gradients * side).reshape(k, len(self.clean), -1) for side in (self.towards, self.away)
        ]
        if self.together:
            return np.concatenate([side.sum(1) for side in sides], axis=1)
        return np.concatenate([side.reshape(k, -1) for side in sides], axis=1)

    def image(self, parts: np.ndarray) -> np.ndarray:
        """The image for parts ``(2·pixels,)`` of the moves; what does not move keeps its bits."""
        parts = np.where(parts > _LEAST, parts, 0.0)
        shape = (1, *self.clean.shape[1:]) if self.together else self.clean.shape
        u, v = (half.reshape(shape) for half in np.split(parts, 2))
        moved = np.clip(self.clean + u * self.towards + v * self.away, 0.0, 1.0)
        return np.where((u != 0) | (v != 0), moved, self.clean)


@dataclass(eq=False)
class InputProgram:
    """Rows ``gradient·(x' - base) + value >= least`` on an input change; rows can be added.

    Args:
        moves: the pixels.
        base: ``(c, h, w)``, where the rows' values and gradients were taken.
        limit: most pixels, ``inf`` for no limit.
    """

    moves: PixelMoves
    base: np.ndarray
    limit: float = np.inf
    _columns: list[np.ndarray] = field(default_factory=list)
    _least: list[np.ndarray] = field(default_factory=list)
    _soft: list[np.ndarray] = field(default_factory=list)
    _priced: PricedProgram | None = None
    _priced_parts: int = 0

    def add(
        self, gradients: np.ndarray, values: np.ndarray, least: np.ndarray, *, soft: bool = False
    ) -> None:
        """More rows; ``soft`` ones may be missed, at a price that nothing else outweighs.

        Args:
            gradients: ``(k, c, h, w)``. values, least: ``(k,)``.
        """
        offset = np.tensordot(gradients, self.moves.clean - self.base, axes=3)
        self._columns.append(self.moves.columns(gradients))
        self._least.append(least - values - offset)
        self._soft.append(np.full(len(values), soft))

    @property
    def size(self) -> int:
        """Number of rows."""
        return sum(map(len, self._least))

    def relaxed(self, solver: str, seconds: float | None) -> Solution:
        """The linear relaxation; variables (u, v, slack).

        One soft row alone has a closed form; HiGHS keeps its model while rows are added, and
        columns enter it as they are needed; other solvers get the whole program.
        """
        if solver != "highs":
            return solve(self._problem(np.zeros(0)), solver=solver, seconds=seconds)
        if self.size == 1 and self._soft[0][0]:
            return self._covered()
        found = self._growing().solve(seconds)
        if not found.status.found or self._holds(found.x):
            return found
        return solve(self._problem(np.zeros(0)), solver=solver, seconds=seconds)

    def _covered(self) -> Solution:
        x, slack = cheapest_cover(self._columns[0][0], self._least[0][0], _SLACK, self.limit)
        value = float(x.sum() + _SLACK * slack)
        return Solution(SolverStatus.OPTIMAL, np.append(x, slack), value, value, 0.0, "closed form")

    def _growing(self) -> PricedProgram:
        """The kept program, with the rows that were added since."""
        n = 2 * self.moves.pixels
        if self._priced is None:
            cost, most = np.append(np.ones(n), _SLACK), np.append(np.ones(n), np.inf)
            best = largest(self._columns[0].max(0), _BEGIN)
            self._priced = PricedProgram(cost, most, np.append(best, n))
            if np.isfinite(self.limit):
                counted = np.append(np.ones(n), 0.0)[None]
                self._priced.add(counted, np.array([-np.inf]), np.array([self.limit]))
        for place in range(self._priced_parts, len(self._least)):
            soft = self._soft[place].astype(float)[:, None]
            matrix, least = np.hstack([self._columns[place], soft]), self._least[place]
            self._priced.add(matrix, least, np.full(len(least), np.inf))
        self._priced_parts = len(self._least)
        return self._priced

    def _holds(self, x: np.ndarray) -> bool:
        """Whether an answer keeps its bounds and rows, put into them again."""
        room = TOLERANCE * max(1.0, float(np.abs(x).max()))
        inside = bool(np.isfinite(x).all() and x.min() >= -room and x[:-1].max() <= 1 + room)
        return inside and all(
            bool((columns @ x[:-1] + soft * x[-1] >= least - room).all())
            for columns, least, soft in zip(self._columns, self._least, self._soft, strict=True)
        )

    def exact(self, solver: str, seconds: float | None) -> Solution:
        """The mixed-integer program; variables (u, v, slack, M)."""
        count = self.moves.pixels
        problem = self._problem(np.ones(count))
        return solve(problem, solver=solver, seconds=seconds)

    def image(self, solution: Solution) -> np.ndarray:
        """The image of a solution."""
        return self.moves.image(solution.x[: 2 * self.moves.pixels])

    def missed(self, solution: Solution) -> float:
        """By how much the soft rows are missed."""
        return float(solution.x[2 * self.moves.pixels])

    def _problem(self, whole: np.ndarray) -> Problem:
        n, count = 2 * self.moves.pixels, len(whole)
        soft = np.concatenate(self._soft).astype(np.float64)[:, None]
        empty = np.zeros((len(soft), count))
        parts: list[tuple[Any, Any, Any]] = [
            (
                np.hstack([np.vstack(self._columns), soft, empty]),
                np.concatenate(self._least),
                np.inf,
            )
        ]
        unit = sparse.eye_array(self.moves.pixels)
        if count:
            tie = sparse.hstack([unit, unit, sparse.csr_array((count, 1)), -unit])
            parts.append((tie, -np.inf, 0.0))
        counted = np.concatenate([np.zeros(n) if count else np.ones(n), [0.0], whole])
        if np.isfinite(self.limit):
            parts.append((counted[None], -np.inf, self.limit))
        cost = counted.copy()
        cost[n] = _SLACK
        upper = np.concatenate([np.ones(n), [np.inf], whole])
        integer = np.concatenate([np.zeros(n + 1), whole]).astype(bool)
        return Problem(cost, np.zeros(len(cost)), upper, *rows(*parts), integer)


class SmallestChange:
    """The least ``max |δ|`` (then ``Σ|δ|`` at a thousandth of its weight) on the changed channels.

    Variables (δ⁺, δ⁻, max). Rows can be added; the solver keeps its model.

    Args:
        moves: for the clean image and its room.
        base: where gradients and values are taken.
        changed: bool ``(c, h, w)``.
        solver: its name.
    """

    def __init__(
        self, moves: PixelMoves, base: np.ndarray, changed: np.ndarray, solver: str
    ) -> None:
        self._clean, self._shift, self._changed = moves.clean, moves.clean - base, changed
        self._n = n = int(changed.sum())
        up = np.maximum(moves.towards, moves.away)[changed]
        down = -np.minimum(moves.towards, moves.away)[changed]
        upper = np.concatenate([up, down, [np.inf]])
        cost = np.append(np.full(2 * n, 1e-3), 1.0)
        self._program = Growing(cost, np.zeros(2 * n + 1), upper, solver=solver)
        most = np.hstack([np.eye(n), np.eye(n), -np.ones((n, 1))])
        self._program.add(most, np.full(n, -np.inf), np.zeros(n))

    def add(self, gradients: np.ndarray, values: np.ndarray, least: np.ndarray) -> None:
        """More rows, as in ``InputProgram.add``."""
        least = least - values - np.tensordot(gradients, self._shift, axes=3)
        inner = gradients[:, self._changed]
        rows = np.hstack([inner, -inner, np.zeros((len(inner), 1))])
        self._program.add(rows, least, np.full(len(least), np.inf))

    def solved(self, seconds: float | None) -> np.ndarray | None:
        """The image, or ``None`` if the rows cannot be met."""
        found = self._program.solve(seconds)
        if not found.status.found:
            return None
        image, changed, n = self._clean.copy(), self._changed, self._n
        moved = self._clean[changed] + found.x[:n] - found.x[n : 2 * n]
        image[changed] = np.clip(moved, 0.0, 1.0)
        return image
