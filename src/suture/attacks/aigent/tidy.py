"""A found adversarial input with fewer pixels, and then with smaller changes."""

from __future__ import annotations

import numpy as np

from suture.attacks.aigent.pixelwise import one_by_one
from suture.attacks.aigent.program import SmallestChange
from suture.attacks.aigent.region import TOO_MANY, property_rows, step
from suture.attacks.aigent.task import FEW, TargetSearch
from suture.solvers.ordering import largest

_GRID = 32
_SHARES = 16
_MANY = 150
"""Changed pixels above which trying each of them costs more than another program."""


def polish(task: TargetSearch, found: np.ndarray) -> np.ndarray:
    """Programs in the phases of what was found last, while that saves pixels; then less change."""
    best = fewer(task, found)
    for _ in range(task.settings.polish):
        if task.late:
            return best
        image = step(task, best)
        if image is None or not task.fooled(image):
            break
        image = fewer(task, image)
        if task.count(image) >= task.count(best):
            break
        best = image
    if (
        task.settings.polish
        and task.settings.candidates
        and task.count(best) > task.settings.enough
    ):
        image = one_by_one(task, task.count(best) - 1)
        best = best if image is None else fewer(task, image)
    return smaller(task, best) if task.settings.polish else best


def fewer(task: TargetSearch, image: np.ndarray) -> np.ndarray:
    """Pixels that are not needed go back, the least needed first.

    First with the changed pixels pushed to the corners of their range, which makes room for more
    to go back; what keeps fewer pixels wins. Where very many are changed, they go back in the order
    of the gradient, and no more is tried if very many are left.
    """
    image = _thinned(task, image)
    if task.count(image) > _MANY:
        return image
    plain = _dropped(task, image)
    pushed = _corners(task, image)
    if not task.fooled(pushed):
        return plain
    pushed = _dropped(task, pushed)
    return pushed if task.count(pushed) < task.count(plain) else plain


def _thinned(task: TargetSearch, image: np.ndarray) -> np.ndarray:
    """Where very many pixels are changed: those restored that the gradient says help least.

    As many as the network bears, out of a grid of shares, and again.
    """
    while task.count(image) > _MANY and not task.late:
        gradients, _ = property_rows(task, task.reading(image))
        effect = gradients[0] * (image - task.clean)
        if task.settings.together:
            effect = effect.sum(0, keepdims=True)
        changed = (image != task.clean).any(0, keepdims=True) | np.zeros(effect.shape, dtype=bool)
        ranked = np.sort(effect[changed])
        ends = ranked[(np.arange(1, _SHARES) * len(ranked)) // _SHARES]
        tries = np.stack([np.where(effect <= end, task.clean, image) for end in ends])
        fewest = _last(task, tries, task.guessed(tries))
        if fewest is None or task.count(fewest) >= task.count(image):
            return image
        image = fewest
    return image


def _dropped(task: TargetSearch, image: np.ndarray) -> np.ndarray:
    """Pixels restored, in the order of the margin that each leaves, as many as the network bears.

    Again and again, until not even the one that leaves the largest margin can go.
    """
    while not task.late:
        places = _places(task, image)
        if len(places) < 2:
            return image
        alone = task.guessed(np.where(places, task.clean, image))
        if alone.max() < task.least_margin:
            return image
        order = np.argsort(-alone, kind="stable")
        gone = np.logical_or.accumulate(places[order], axis=0)
        tries = np.where(gone, task.clean, image)
        fewest = _last(task, tries, np.append(alone[order[0]], task.guessed(tries[1:])))
        if fewest is None:
            return image
        image = fewest
    return image


def _last(task: TargetSearch, tries: np.ndarray, margins: np.ndarray) -> np.ndarray | None:
    """The last of the tries that is adversarial by guess and by the network; ``None`` if none."""
    good = (tries[place] for place in (margins >= task.least_margin).nonzero()[0][::-1])
    return next((one for one in good if task.fooled(one)), None)


def _places(task: TargetSearch, image: np.ndarray) -> np.ndarray:
    """A mask ``(c, h, w)`` for every changed pixel, ``(pixels, c, h, w)``."""
    differ = image != task.clean
    if task.settings.together:
        spots = np.argwhere(differ.any(0))
        masks = np.zeros((len(spots), *differ.shape), dtype=bool)
        for mask, (row, column) in zip(masks, spots, strict=True):
            mask[:, row, column] = True
        return masks
    spots = np.argwhere(differ)
    masks = np.zeros((len(spots), *differ.shape), dtype=bool)
    masks[(np.arange(len(spots)), *spots.T)] = True
    return masks


def _corners(task: TargetSearch, image: np.ndarray) -> np.ndarray:
    """The changed pixels at the corner that the property's gradient at the image points to."""
    gradients, _ = property_rows(task, task.reading(image))
    moves = task.moves(gradients[0])
    differ = image != task.clean
    changed = differ.any(0, keepdims=True) if task.settings.together else differ
    return np.where(changed, np.clip(task.clean + moves.towards, 0.0, 1.0), task.clean)


def smaller(task: TargetSearch, image: np.ndarray) -> np.ndarray:
    """The same pixels, with the smallest largest change that the network still agrees to."""
    best = _shrunk(task, image)
    for _ in range(2):
        if task.late:
            return best
        near = _least_change(task, best)
        if near is None or not task.fooled(near) or _size(task, near) >= _size(task, best):
            return best
        best = near
    return best


def _size(task: TargetSearch, image: np.ndarray) -> float:
    return float(np.abs(image - task.clean).max())


def _shrunk(task: TargetSearch, image: np.ndarray) -> np.ndarray:
    """All changes by one factor, the smallest on a grid and then on a finer one below it."""
    low, high, best = 0.0, 1.0, image
    for _ in range(2):
        factors = np.linspace(low, high, _GRID + 1)[1:-1]
        scale = factors.reshape(-1, *([1] * image.ndim))
        moved = task.clean + scale * (image - task.clean)
        tries = np.where(image != task.clean, moved, image)
        good = (task.guessed(tries) >= task.least_margin).nonzero()[0]
        least = next((place for place in good if task.fooled(tries[place])), None)
        if least is not None:
            high, best = float(factors[least]), tries[least]
        low = high - (high - low) / _GRID if least is None else high - 1.0 / _GRID
    return best


def _least_change(task: TargetSearch, image: np.ndarray) -> np.ndarray | None:
    """The program on the changed pixels in the phases of ``image``, its rows added as needed."""
    here = task.reading(image)
    gradients, values = property_rows(task, here)
    moves, changed = task.moves(gradients[0]), image != task.clean
    program = SmallestChange(moves, here.base, changed, task.settings.solver)
    program.add(gradients, values, np.full(len(values), task.settings.margin))
    units = here.values(here.units)
    signs, free = np.where(units >= 0, 1.0, -1.0), np.ones(len(units), dtype=bool)
    for _ in range(task.settings.repairs):
        task.programs += 1
        found = program.solved(task.left)
        if found is None or task.late:
            return found
        if task.fooled(found):
            return found
        now = task.reading(found)
        wrong = np.where(free, -signs * now.values(now.units), -np.inf)
        broken = (wrong > 0).nonzero()[0]
        if not 0 < len(broken) <= TOO_MANY:
            return None
        chosen = broken[largest(wrong[broken], FEW)]
        free[chosen] = False
        side = signs[chosen]
        rows = side[:, None, None, None] * here.unit_rows(chosen)
        program.add(rows, side * units[chosen], np.zeros(len(chosen)))
    return None
