"""The paper's way: patches of the layers, then the sparse input that imitates the first one's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from suture.attacks.aigent.affine import Span, onwards, signs_of
from suture.attacks.aigent.goals import EXACT, Goal, reached, wanted
from suture.attacks.aigent.network import Reading
from suture.attacks.aigent.patching import PatchChain, chain
from suture.attacks.aigent.program import InputProgram
from suture.attacks.aigent.reaching import (
    FirstValues,
    assignment,
    exact_assignment,
    in_own_phases,
    small,
)
from suture.attacks.aigent.step import EdgeLayerPatch
from suture.attacks.aigent.tail import Tail
from suture.attacks.aigent.task import FEW, TargetSearch
from suture.solvers import SolverStatus
from suture.solvers.ordering import largest

_AS_GOOD = 1e-6
"""By how much a value may miss its target and still count as imitated, over its size."""


@dataclass(frozen=True)
class ChainFacts:
    """What became of one image's patches.

    Attributes:
        status: OPTIMAL where every patch meets its targets in the assumed phases.
        own: whether the assumed phases are the input's.
        layers: each patch's layer, ``max |ε|``, and by how much it misses its targets.
        errs: whether the network with the first layer's patch says what is wanted, by a forward.
        impossible: whether a linear program proves that no targets can be met in the input's own
            phases, whatever the patches; asked where ``chain`` is "own" and none were found.
        imitates: whether the network says of the found input what the patched network says of
            the given one.
    """

    status: SolverStatus
    own: bool
    layers: tuple[tuple[int, float, float], ...]
    errs: bool
    impossible: bool = False
    imitates: bool = False

    @property
    def stopped(self) -> str | None:
        """The first patch that misses its targets, ``None`` where all are met."""
        if self.status.found:
            return None
        for layer, _, missed in self.layers:
            if missed:
                return f"layer {layer}"
        return f"the patch after {len(self.layers)}"


def summary(chains: Sequence[ChainFacts]) -> str:
    """In a sentence: how many chains met their targets, where others stopped, what they did."""
    met = sum(one.status.found for one in chains)
    missed = Counter(where for one in chains if (where := one.stopped) is not None)
    where = "".join(f" {count} stopped at {place}." for place, count in missed.items())
    return (
        f"{met} of {len(chains)} chains meet every target; the patched network errs on "
        f"{sum(one.errs for one in chains)}, and the network on "
        f"{sum(one.imitates for one in chains)} inputs that imitate the patch.{where}"
    )


def imitate(task: TargetSearch) -> np.ndarray | None:
    """An input that gives the first layer what its patch would; ``None`` if there is no patch.

    The network may still disagree: its phases need not be those that the patches assumed.
    """
    tail = task.network.tail
    if not task.settings.patches or tail is None:
        return None
    here = task.reading(task.clean)
    assert here.entry is not None
    entry, goal = here.values(here.entry), _goal(task, len(here.logits))
    made, own = _chain(task, tail, entry, goal)
    image, imitates = (None, False) if not made.whole else _translated(task, here, made, goal)
    task.chain = ChainFacts(
        status=made.status,
        own=own,
        layers=tuple((p.layer, p.largest, _missed(p)) for p in made.patches),
        errs=made.short(tail, goal) <= task.settings.margin / 2,
        impossible=_impossible(task, tail, entry, goal, made),
        imitates=imitates,
    )
    return image


def _impossible(
    task: TargetSearch, tail: Tail, entry: np.ndarray, goal: Goal, made: PatchChain
) -> bool:
    if task.settings.chain != "own" or made.status.found:
        return False
    first = FirstValues(tail, tail.values(entry)[1][0], *_room(task, tail, entry), goal)
    return in_own_phases(first, lambda: task.left) is SolverStatus.INFEASIBLE


def _missed(patch: EdgeLayerPatch) -> float:
    return 0.0 if patch.met else patch.missed


def _goal(task: TargetSearch, classes: int) -> Goal:
    others = [task.label] if task.any_class else [c for c in range(classes) if c != task.target]
    return wanted(task.target, others, classes, task.settings.margin)


def _chain(
    task: TargetSearch, tail: Tail, entry: np.ndarray, goal: Goal
) -> tuple[PatchChain, bool]:
    """The patches, and whether they assume the input's own phases.

    With joint targets: in the phases of first-layer values with which the network meets the goal.
    Where none are found, and in the paper's way, in the input's phases, marks first held and then
    let go; those that come nearest are given back where none meet every goal.
    """
    settings = task.settings
    room = _room(task, tail, entry)
    if settings.chain == "joint":
        first = FirstValues(tail, tail.values(entry)[1][0], *room, goal)
        values, programs = assignment(first, lambda: task.left)
        task.programs += programs
        if values is None and small(first) and not task.late:
            values, _ = exact_assignment(first, task.left)
            task.programs += 1
        if values is not None:
            signs = signs_of(onwards(tail, values))
            made = _patched(task, tail, entry, goal, signs=signs, room=room, restrict=False)
            if made.status.found:
                return made, False
    best: PatchChain | None = None
    for restrict in (True, False) if settings.marking != "off" else (False,):
        made = _patched(task, tail, entry, goal, signs=None, room=room, restrict=restrict)
        if made.status.found or task.late:
            return made, True
        best = made if best is None or (made.whole and not best.whole) else best
    assert best is not None
    return best, True


def _patched(
    task: TargetSearch,
    tail: Tail,
    entry: np.ndarray,
    goal: Goal,
    *,
    signs: list[np.ndarray] | None,
    room: tuple[np.ndarray, np.ndarray],
    restrict: bool,
) -> PatchChain:
    settings = task.settings
    made = chain(
        tail,
        entry,
        goal,
        signs=signs,
        marking=settings.marking,
        restrict=restrict,
        relaxed=settings.relaxed,
        joint=settings.chain != "paper",
        room=None if settings.chain == "paper" else room,
        solver=settings.solver,
        seconds=task.left,
    )
    task.programs += 2 * len(made.patches)
    return made


def _room(task: TargetSearch, tail: Tail, entry: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Between which values an image can bring the first layer; infinite behind convolutions."""
    weight, bias = tail.weights[0], tail.biases[0]
    clean = task.clean.ravel()
    if entry.shape != clean.shape or not np.array_equal(entry, clean):
        free = np.full(len(bias), np.inf)
        return -free, free
    most = task.settings.max_change
    low, high = np.maximum(clean - most, 0.0), np.minimum(clean + most, 1.0)
    up, down = np.maximum(weight, 0.0), np.minimum(weight, 0.0)
    return up @ low + down @ high + bias, up @ high + down @ low + bias


def _translated(
    task: TargetSearch, here: Reading, made: PatchChain, goal: Goal
) -> tuple[np.ndarray | None, bool]:
    """The sparse image that does what the first layer's patch does, and whether it does.

    Relaxed, its first layer need only have the patch's effect: the goal in the phases that the
    patch gives the network, and of these the ones that an image breaks. Otherwise its values
    become rows, those that the ReLU cuts off as at most zero.
    """
    assert here.first is not None
    tail = task.network.tail
    assert tail is not None
    each = np.ones(len(made.targets), dtype=bool)
    if task.settings.relaxed:
        span = Span.of(tail, made.signs, 1, len(tail))
        effect = goal.right - goal.matrix @ span.shift
        matrix = np.vstack([goal.matrix @ span.slope, span.phases])
        right, begin = np.concatenate([effect, span.least]), len(effect)
    else:
        values = reached(made.targets, each, each)
        matrix, right, begin = values.matrix, values.right, 0
    return _met_by_pixels(task, here, matrix, right, begin)


def _met_by_pixels(
    task: TargetSearch,
    here: Reading,
    matrix: np.ndarray,
    right: np.ndarray,
    begin: int,
) -> tuple[np.ndarray | None, bool]:
    """The sparsest image with ``matrix @ z_1 >= right``, rows as images break them.

    The first ``begin`` rows are there from the beginning, or those that the clean image misses.
    Where no image meets them all the nearest one is given back.
    """
    before = here.values(here.first)
    least = right - matrix @ before
    todo = np.arange(begin) if begin else (least > EXACT).nonzero()[0][: 2 * FEW]
    if not len(todo):
        return None, False
    gradient = here.rows(here.first, np.maximum(least[todo], EXACT) @ matrix[todo][None])[0]
    program = InputProgram(task.moves(gradient), task.clean, task.settings.limit)
    missing, image = np.ones(len(least), dtype=bool), None
    room = _AS_GOOD * max(1.0, float(np.abs(right).max()))
    while len(todo) and not task.late:
        missing[todo] = False
        rows = here.rows(here.first, matrix[todo])
        program.add(rows, np.zeros(len(todo)), least[todo], soft=True)
        image = task.solved(program)
        if image is None:
            break
        if task.fooled(image):
            return image, True
        now = task.reading(image)
        left = least - matrix @ (now.values(now.first) - before)
        todo = largest(np.where(missing, left, -np.inf), FEW)
        todo = todo[missing[todo] & (left[todo] > room)]
    return image, False
