"""Patches of one edge layer after another, from the middle down to the first (Algorithm 1).

The paper's chain patches the middle layer in the input's phases, whatever the layers before can
do; their own patches then have to meet targets that their ranks and phases may not allow. Here a
target is chosen among those that the layers before can reach (``joint``): the program of each
patch has the first layer's values, and the phases up to the patched layer, as further unknowns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from suture.attacks.aigent.affine import Span, onwards, signs_of
from suture.attacks.aigent.goals import Goal, Marking, led_back, reached, wanted
from suture.attacks.aigent.step import Below, EdgeLayerPatch, PatchStep
from suture.attacks.aigent.tail import Tail
from suture.solvers import SolverStatus

__all__ = ["EdgeLayerPatch", "PatchChain", "chain", "wanted"]


@dataclass(frozen=True, eq=False)
class PatchChain:
    """Patches from the middle layer to the first, and what the first layer's values should be.

    Attributes:
        patches: in the order in which they were found.
        status: OPTIMAL if every patch meets its goal in the assumed phases; INFEASIBLE if one of
            them could only come as near as possible; else how the last program failed.
        targets: ``(neurons,)`` values of layer 1 under its patch.
        rise, fall: their marks.
        signs: the assumed phases, ±1.
    """

    patches: tuple[EdgeLayerPatch, ...]
    status: SolverStatus
    targets: np.ndarray
    rise: np.ndarray
    fall: np.ndarray
    signs: list[np.ndarray]

    @property
    def whole(self) -> bool:
        """Whether the first layer has a patch."""
        return bool(self.patches) and self.patches[-1].layer == 1

    def short(self, tail: Tail, goal: Goal) -> float:
        """By how much the network with the first layer's patch misses the goal, by a forward."""
        return goal.short(onwards(tail, self.targets)[-1]) if self.whole else np.inf


def chain(
    tail: Tail,
    entry: np.ndarray,
    goal: Goal,
    *,
    signs: list[np.ndarray] | None = None,
    marking: Marking = "off",
    restrict: bool = True,
    relaxed: bool = True,
    joint: bool = False,
    room: tuple[np.ndarray, np.ndarray] | None = None,
    solver: str = "highs",
    seconds: float | None = None,
) -> PatchChain:
    """Middle-layer patch, reduced network, and so on until the first layer is patched.

    Args:
        tail: the fully connected layers.
        entry: ``(width,)``, their input.
        goal: on the logits.
        signs: phases of the layers' neurons, ±1; the input's own if left out.
        marking: see ``led_back``.
        restrict: let neurons that are marked one way only change that way.
        relaxed: the values of a patched layer become bounds along its marks rather than equations.
        joint: targets are chosen among those that the layers before can reach; a layer whose
            inputs are all zero, which no weight can change, is left out.
        room: ``(lower, upper)`` of the first layer's values, each ``(neurons,)``.
        solver, seconds: for ``solve``.
    """
    inputs, values = tail.values(entry)
    signs = signs_of(values) if signs is None else signs
    free = np.full(len(values[0]), np.inf)
    low, high = (-free, free) if room is None else room
    top, patches = len(tail), list[EdgeLayerPatch]()
    while True:
        layer = (top + 1) // 2
        while joint and layer > 1 and not inputs[layer - 1].any():
            layer = (layer + 1) // 2
        rise, fall = led_back(tail, goal, layer, top, marking)
        z, below = values[layer - 1], None
        lower, upper = np.full(len(z), -np.inf), np.full(len(z), np.inf)
        if restrict and marking != "off":
            lower, upper = np.where(rise & ~fall, 0.0, lower), np.where(fall & ~rise, 0.0, upper)
        if layer == 1:
            lower, upper = np.maximum(lower, low - z), np.minimum(upper, high - z)
        elif joint:
            below = Below(Span.of(tail, signs, 1, layer), (low, high))
        step = PatchStep(tail, signs, layer, top, inputs[layer - 1], z, goal, lower, upper, below)
        patch, status = step.solve(solver, seconds)
        if patch is None:
            return PatchChain(tuple(patches), status, values[0], rise, fall, signs)
        patches.append(patch)
        if layer == 1:
            overall = SolverStatus.OPTIMAL if all(p.met for p in patches) else _MISSED
            return PatchChain(tuple(patches), overall, z + patch.change, rise, fall, signs)
        each = rise | True
        goal = reached(z + patch.change, *((rise, fall) if relaxed else (each, each)))
        top = layer


_MISSED = SolverStatus.INFEASIBLE
