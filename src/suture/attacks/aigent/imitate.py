"""The paper's way: patches of the layers, then the sparse input that imitates the first one's."""

from __future__ import annotations

import numpy as np

from suture.attacks.aigent.network import Linearised
from suture.attacks.aigent.patching import PatchChain, chain, sides, wanted
from suture.attacks.aigent.program import InputProgram
from suture.attacks.aigent.task import FEW, TargetSearch

_EXACT = 1e-9


def imitate(task: TargetSearch) -> np.ndarray | None:
    """An input that gives the first layer what its patch would; ``None`` if there is no patch.

    The network may still disagree: its phases need not be those that the patches assumed.
    """
    if not task.settings.patches or task.network.tail is None:
        return None
    here = task.network.at(task.clean)
    made = _chain(task, here)
    return None if made is None else _translated(task, here, made)


def _chain(task: TargetSearch, here: Linearised) -> PatchChain | None:
    """The patches: with marking, and without where that is too strict.

    Where no patches meet every goal those that come nearest are given back.
    """
    tail, settings = task.network.tail, task.settings
    assert tail is not None and here.entry is not None
    classes = len(here.logits)
    others = [task.label] if task.any_class else [c for c in range(classes) if c != task.target]
    goal = wanted(task.target, others, classes, settings.margin)
    best: PatchChain | None = None
    for marking in (True, False) if settings.marking else (False,):
        made = chain(
            tail,
            here.values(here.entry),
            goal,
            marking=marking,
            relaxed=settings.relaxed,
            solver=settings.solver,
            seconds=task.left,
        )
        task.programs += 2 * len(made.patches)
        if made.status.found:
            return made
        if best is None and made.patches and made.patches[-1].layer == 1:
            best = made
    return best


def _translated(task: TargetSearch, here: Linearised, made: PatchChain) -> np.ndarray | None:
    """Values of layer 1 as rows on the input; those that the last input misses are added.

    Rows that the patch changes come first. Where no input can have these values the nearest one
    is given back.
    """
    assert here.first is not None
    weights, least = _targets(made, here.values(here.first), task.settings.relaxed)
    changed = (np.abs(least) > _EXACT).nonzero()[0]
    todo = changed if len(changed) else np.arange(len(least))
    gradient = here.rows(here.first, least[todo] @ weights[todo][None])[0]
    program = InputProgram(task.moves(gradient), task.clean, task.settings.limit)
    missing = np.ones(len(least), dtype=bool)
    image = None
    for _ in range(task.settings.repairs):
        if not len(todo) or task.late:
            break
        missing[todo] = False
        program.add(
            here.rows(here.first, weights[todo]), np.zeros(len(todo)), least[todo], soft=True
        )
        image = task.solved(program)
        if image is None or task.fooled(image):
            break
        now = task.network.look(image)
        assert now.first is not None
        short = least - weights @ (now.values(now.first) - here.values(here.first))
        todo = np.argsort(-np.where(missing, short, -np.inf))[: 2 * FEW]
        todo = todo[missing[todo] & (short[todo] > _EXACT)]
    return image


def _targets(made: PatchChain, values: np.ndarray, relaxed: bool) -> tuple[np.ndarray, np.ndarray]:
    """``weights @ (z_1 - values) >= least``: bounds along the change, or equations, as two."""
    change = made.targets - values
    ways = sides(change, made.marks)
    weights, least = np.diag(ways), ways * change
    if relaxed:
        return weights, least
    return np.vstack([weights, -weights]), np.concatenate([least, -least])
