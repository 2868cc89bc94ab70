"""The smallest patch without fixed phases, as Goldberger et al. (2020) ask for it.

Each input gets a mixed-integer encoding of the layers behind the patched one, with bounds on the
box that patches no worse than the one at hand can reach. What is better than that patch lies in
the box, so the program's optimum is the network's.

One input alone needs no variable per weight: the smallest ``max |ε|`` that moves a neuron by Δ is
``|Δ| / Σ|a|``, and the smallest ``Σ|ε|`` is ``|Δ| / max |a|``.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from suture.attacks.aigent.encoding import encode
from suture.attacks.aigent.tail import Tail
from suture.errors import ArgumentError
from suture.repairs.weight_patch.evaluation import Patched
from suture.repairs.weight_patch.points import Point, met
from suture.repairs.weight_patch.program import LayerPatch, Wish, patch_layer
from suture.solvers import Problem, Solution, SolverStatus, rows, solve

_REACHES = (0.1, 1.0, 10.0, 100.0)
"""Sizes tried one after another where no patch is at hand: none within one is a proof for it."""
_WIDER = 1e-6


def smallest_patch(tail: Tail, layer: int, points: Sequence[Point], wish: Wish) -> LayerPatch:
    """The smallest patch in any phases: status, bound and gap are those of the whole question.

    Begins with ``patch_layer``'s, in the inputs' phases. For sizes "linf" (the largest change
    alone) and "l1".

    Raises:
        ArgumentError: another size, or a decoupled network, whose phases no patch can change.
    """
    if wish.size not in ("linf", "l1") or wish.decoupled:
        raise ArgumentError(
            expected='size "linf" or "l1" of a network that is not decoupled',
            got=f"size={wish.size!r}, decoupled={wish.decoupled}",
            remedy='Use phases="fixed" for the others.',
        )
    started = time.perf_counter()
    first = patch_layer(tail, layer, points, dataclasses.replace(wish, phases="fixed"))
    reaches = [r for r in _REACHES if r < wish.max_change]
    reaches.append(min(wish.max_change, 1e3))
    if first.status.found:
        reaches = [min(_objective(tail, points, first, wish), wish.max_change)]
    best, programs = first, first.programs
    for reach in reaches:
        left = None if wish.seconds is None else wish.seconds - (time.perf_counter() - started)
        if left is not None and left <= 0.0:
            break
        best = _within(tail, layer, points, wish, reach * (1 + _WIDER) + 1e-9, left)
        programs += 1
        if best.status is not SolverStatus.INFEASIBLE:
            break
    if first.status.found and not best.status.found:
        best = _kept(first, best, reaches[0])
    seconds = time.perf_counter() - started
    # What a patch attains bounds the smallest one; a solver's bound may lie a tolerance above.
    attained = best.status.found and wish.size == "linf"
    bound = min(best.bound, best.largest) if attained else best.bound
    return dataclasses.replace(best, bound=bound, seconds=seconds, programs=programs)


def _kept(first: LayerPatch, failed: LayerPatch, size: float) -> LayerPatch:
    """The patch in the inputs' phases, where the program of all phases gave none.

    Where none is within its size it is the smallest, up to the tolerance of its demands; where
    time ran out or the solver failed, as far as the program came.
    """
    if failed.status is SolverStatus.INFEASIBLE:
        return dataclasses.replace(first, incumbent=size, bound=size, gap=0.0)
    bound = failed.bound if np.isfinite(failed.bound) else 0.0
    gap, notes = (size - bound) / max(1.0, size), (*first.notes, *failed.notes)
    status = SolverStatus.FEASIBLE
    return dataclasses.replace(
        first, status=status, incumbent=size, bound=bound, gap=gap, notes=notes
    )


def _objective(tail: Tail, points: Sequence[Point], patch: LayerPatch, wish: Wish) -> float:
    """A patch's size, and what its missed demands cost."""
    entries = np.stack([point.entry for point in points])
    outputs = Patched(tail, patch.layer, patch.change, False).outputs(entries)[0]
    size = patch.largest if wish.size == "linf" else patch.total
    for point, output in zip(points, outputs, strict=True):
        if np.isfinite(point.price):
            size += point.price * max(0.0, float((point.right - point.matrix @ output).max()))
    return size


def _within(
    tail: Tail,
    layer: int,
    points: Sequence[Point],
    wish: Wish,
    reach: float,
    seconds: float | None,
) -> LayerPatch:
    """The smallest among the patches of at most this size."""
    given = [tail.values(point.entry) for point in points]
    inputs = [one[0][layer - 1] for one in given]
    values = [one[1][layer - 1] for one in given]
    alone = _Neurons if len(points) == 1 else _Weights
    unknown = alone(inputs, len(values[0]), wish.size == "linf")
    build = _Build(unknown, reach)
    for point, a, z in zip(points, inputs, values, strict=True):
        room = reach * (np.abs(a).sum() if wish.size == "linf" else np.abs(a).max(initial=0.0))
        build.add(tail, layer, point, a, z, room)
    found = solve(build.problem(), solver=wish.solver, seconds=seconds)
    change = np.zeros(tail.weights[layer - 1].shape)
    if found.status.found:
        change = unknown.weights(found.x)
    return _patch(tail, layer, points, change, found)


def _patch(
    tail: Tail, layer: int, points: Sequence[Point], change: np.ndarray, found: Solution
) -> LayerPatch:
    entries = np.stack([point.entry for point in points])
    good = met(points, Patched(tail, layer, change, False).outputs(entries)[0])
    hard = np.array([not np.isfinite(point.price) for point in points])
    status = found.status
    if status.found and not good[hard].all():
        status = SolverStatus.FAILED
    return LayerPatch(
        layer, status, change, good, found.incumbent, found.bound, found.gap, 0.0, 1, found.notes
    )


class _Neurons:
    """Unknowns (Δ⁺, Δ⁻) of one input's neurons, scaled so that their size is the weights'."""

    def __init__(self, inputs: list[np.ndarray], out: int, largest: bool) -> None:
        (self._inputs,) = inputs
        self.largest, self._out = largest, out
        sizes = np.abs(self._inputs)
        self._scale = float(sizes.sum() if largest else sizes.max(initial=0.0))
        self.count = out

    def effect(self, _inputs: np.ndarray) -> Any:
        """What the unknowns do to the values."""
        return self._scale * sparse.eye_array(self._out)

    def weights(self, x: np.ndarray) -> np.ndarray:
        """ε for a solution."""
        size = x[: self.count] - x[self.count : 2 * self.count]
        if self.largest:
            return np.outer(size, np.sign(self._inputs))
        change = np.zeros((self._out, len(self._inputs)))
        place = int(np.abs(self._inputs).argmax())
        change[:, place] = size * np.sign(self._inputs[place])
        return change


class _Weights:
    """Unknowns (ε⁺, ε⁻), one a weight."""

    def __init__(self, inputs: list[np.ndarray], out: int, largest: bool) -> None:
        self.largest, self._out = largest, out
        self.count = out * len(inputs[0])

    def effect(self, inputs: np.ndarray) -> Any:
        """``ε a`` of the flattened ε."""
        return sparse.kron(sparse.eye_array(self._out), inputs[None])

    def weights(self, x: np.ndarray) -> np.ndarray:
        """ε for a solution."""
        return (x[: self.count] - x[self.count : 2 * self.count]).reshape(self._out, -1)


@dataclass
class _Group:
    """One input's rows on (unknowns, M) and on variables of its own."""

    shared: list[Any]
    own: list[Any]
    low: list[np.ndarray]
    high: list[np.ndarray]


class _Build:
    """The whole program: variables (unknown⁺, unknown⁻, M), then each input's (z, …, slack)."""

    def __init__(self, unknown: _Neurons | _Weights, reach: float) -> None:
        self._unknown, n = unknown, unknown.count
        self._shared, self._reach = 2 * n + 1, reach
        cost = np.append(np.zeros(2 * n), 1.0) if unknown.largest else np.append(np.ones(2 * n), 0)
        self._cost, self._integer = [cost], [np.zeros(2 * n + 1, dtype=bool)]
        self._lower, self._upper = [np.zeros(2 * n + 1)], [np.full(2 * n + 1, reach)]
        self._groups: list[_Group] = []

    def add(
        self, tail: Tail, layer: int, point: Point, inputs: np.ndarray, z: np.ndarray, room: float
    ) -> None:
        code = encode(tail, layer, z - room, z + room)
        n, own = len(z), len(z) + len(code.lower)
        soft = np.isfinite(point.price)
        effect = self._unknown.effect(inputs)
        shared = sparse.hstack([-effect, effect, sparse.csr_array((n, 1))])
        made = sparse.hstack([sparse.eye_array(n), sparse.csr_array((n, own - n + 1))])
        reach = sparse.csr_array(point.matrix @ code.outputs)
        slack = np.full((reach.shape[0], 1), float(soft))
        none = [sparse.csr_array((m.shape[0], self._shared)) for m in (code.matrix, reach)]
        column = sparse.csr_array((code.matrix.shape[0], 1))
        right = point.right - point.matrix @ code.shift
        group = _Group(
            shared=[shared, *none],
            own=[made, sparse.hstack([code.matrix, column]), sparse.hstack([reach, slack])],
            low=[z, code.row_lower, right],
            high=[z, code.row_upper, np.full(len(right), np.inf)],
        )
        self._groups.append(group)
        price = point.price if soft else 0.0
        self._cost.append(np.append(np.zeros(own), price))
        self._lower.append(np.concatenate([z - room, code.lower, [0.0]]))
        self._upper.append(np.concatenate([z + room, code.upper, [np.inf if soft else 0.0]]))
        whole = np.concatenate([np.zeros(n, dtype=bool), code.integer, [False]])
        self._integer.append(whole)

    def problem(self) -> Problem:
        widths = [part.shape[1] for part in (group.own[0] for group in self._groups)]
        parts: list[tuple[Any, Any, Any]] = []
        for place, group in enumerate(self._groups):
            before, after = sum(widths[:place]), sum(widths[place + 1 :])
            own = sparse.vstack(group.own, "csr")
            left = sparse.csr_array((own.shape[0], before))
            right = sparse.csr_array((own.shape[0], after))
            matrix = sparse.hstack([sparse.vstack(group.shared, "csr"), left, own, right], "csr")
            parts.append((matrix, np.concatenate(group.low), np.concatenate(group.high)))
        if self._unknown.largest:
            unit = sparse.eye_array(self._unknown.count)
            most = sparse.csr_array(-np.ones((self._unknown.count, 1)))
            rest = sparse.csr_array((self._unknown.count, sum(widths)))
            parts.append((sparse.hstack([unit, unit, most, rest]), -np.inf, 0.0))
        else:
            each = np.zeros((1, self._shared + sum(widths)))
            each[0, : 2 * self._unknown.count] = 1.0
            parts.append((each, -np.inf, self._reach))
        matrix, low, high = rows(*parts)
        return Problem(
            np.concatenate(self._cost),
            np.concatenate(self._lower),
            np.concatenate(self._upper),
            matrix,
            low,
            high,
            np.concatenate(self._integer),
        )
