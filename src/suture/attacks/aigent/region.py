"""The same question asked of the whole network at once, in the phases of one input."""

from __future__ import annotations

import numpy as np

from suture.attacks.aigent.bounding import class_rows, middle_rows
from suture.attacks.aigent.network import LayeredNetwork, Reading
from suture.attacks.aigent.program import InputProgram
from suture.attacks.aigent.task import FEW, TargetSearch
from suture.solvers.ordering import largest

TOO_MANY = 40
"""Broken phases above which the next input's phases are worth more than rows for these."""


def settle(task: TargetSearch, start: np.ndarray | None) -> np.ndarray | None:
    """An adversarial input by programs in the phases of one input, then of what they find.

    Each next base is where the last program led: its true phases become the assumed ones. The
    first base is ``start``; then the clean image, with a few pixels and more each time, so that
    no step goes far beyond its phases; last the clean image with a slope given to inactive ReLUs,
    for networks in which too much is inactive for any phase to lead on. ``None`` if all fail.
    """
    found = None if start is None else _chase(task, start, task.network)
    found = _grow(task) if found is None else found
    return _chase(task, task.clean, task.network.leaking()) if found is None else found


def _chase(task: TargetSearch, base: np.ndarray, network: LayeredNetwork) -> np.ndarray | None:
    for _ in range(task.settings.phases):
        if task.late:
            return None
        leaking = None if network is task.network else network
        image = step(task, base, network=leaking)
        if image is None or np.array_equal(image, base):
            return None
        if task.fooled(image):
            return image
        base, network = image, task.network
    return None


def _grow(task: TargetSearch) -> np.ndarray | None:
    """At most 2, 4, 8, … pixels; each program starts in the phases of the best input so far."""
    base, best = task.clean, task.margin(task.clean)
    most = min(task.settings.limit, float(task.settings.salient or task.clean[0].size))
    allowed = 1.0
    while allowed < most and not task.late:
        allowed = min(most, 2.0 * allowed)
        for _ in range(task.settings.phases):
            image = step(task, base, limit=allowed, repairs=1)
            if image is None or task.fooled(image):
                break
            margin = task.margin(image)
            if margin <= best:
                break
            base, best = image, margin
        if image is not None and task.fooled(image):
            return image
    return None


def step(
    task: TargetSearch,
    base: np.ndarray,
    *,
    network: LayeredNetwork | None = None,
    limit: float | None = None,
    repairs: int | None = None,
) -> np.ndarray | None:
    """The sparsest input that is adversarial in the phases of ``base``.

    Starts with the property alone. While the true network disagrees, the phases that the last
    input broke most become rows, and the program is solved again; not where so many broke that a
    few rows would not keep the input near. Where the property cannot be reached in these phases,
    the input comes as near to it as it can.

    Args:
        network: whose affine map is used; the attacked one's if left out.
        limit: most pixels; the task's own if left out.
        repairs: programs at most; the settings' number if left out.
    """
    here = network.at(base) if network is not None else task.reading(base)
    gradients, values = _linear_forms(task, here, network or task.network)
    most = task.settings.limit if limit is None else limit
    program = InputProgram(task.moves(gradients[0]), here.base, most)
    program.add(gradients, values, np.full(len(values), task.settings.margin), soft=True)
    units = here.values(here.units)
    signs, free = np.where(units >= 0, 1.0, -1.0), np.ones(len(units), dtype=bool)
    best = None
    rounds = repairs or task.settings.repairs
    for _ in range(1 if task.settings.bounds else rounds):
        if task.late:
            break
        image = task.solved(program)
        if image is None:
            break
        best = image
        if task.fooled(image):
            break
        now = task.reading(image)
        wrong = np.where(free, -signs * now.values(now.units), -np.inf)
        broken = (wrong > 0).nonzero()[0]
        if not 0 < len(broken) <= TOO_MANY:
            break
        chosen = broken[largest(wrong[broken], FEW)]
        free[chosen] = False
        flipped = signs[chosen]
        program.add(
            flipped[:, None, None, None] * here.unit_rows(chosen),
            flipped * units[chosen],
            np.zeros(len(chosen)),
        )
    return best


def property_rows(task: TargetSearch, here: Reading) -> tuple[np.ndarray, np.ndarray]:
    """Gradients ``(k, c, h, w)`` and values of what must exceed the margin.

    Untargeted: the target's logit over the label's (any class above the label will do). Targeted:
    over every other logit, the highest first.
    """
    logits = here.values(here.logits)
    others = [task.label]
    if not task.any_class:
        order = np.argsort(-logits)
        others = [int(c) for c in order if c != task.target]
    weights = _against(task, others, len(logits))
    return here.rows(here.logits, weights), weights @ logits


def _against(task: TargetSearch, others: list[int], classes: int) -> np.ndarray:
    weights = np.zeros((len(others), classes))
    weights[:, task.target] = 1.0
    weights[np.arange(len(others)), others] -= 1.0
    return weights


def _linear_forms(
    task: TargetSearch, here: Reading, network: LayeredNetwork
) -> tuple[np.ndarray, np.ndarray]:
    """``property_rows``, or the middle of linear bounds where the settings ask for them."""
    radius = task.settings.bounds
    if not radius or network is not task.network:
        return property_rows(task, here)
    classes = len(here.logits)
    others = [task.label] if task.any_class else [c for c in range(classes) if c != task.target]
    against = _against(task, others, classes)
    if task.label in network.centres:
        return class_rows(network, task.label, radius, against, here.base)
    return middle_rows(network, here.base, radius, against)
