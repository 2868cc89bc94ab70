"""Pixels one by one: for networks so curved that no program reaches far beyond its phases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from suture.attacks.aigent.region import property_rows
from suture.attacks.aigent.task import TargetSearch
from suture.solvers.ordering import largest

_DOUBLINGS = 12
"""At most 2¹¹ pixels move at once."""


def one_by_one(task: TargetSearch, most: float) -> np.ndarray | None:
    """The pixel that helps most by the network's own answer, then the next, at most ``most``.

    The linear program of one pixel in the phases of the input so far is solved by looking: its
    ``candidates`` best columns are moved in turn, and the network itself says which helps most.
    ``None`` if the network still agrees with the label in the end.
    """
    return _greedy(task, most, _tries)


def many_at_once(task: TargetSearch, most: float) -> np.ndarray | None:
    """The 1, 2, 4, … best pixels moved together, as many as the network likes best; then again.

    For networks whose phases break long before a program's image is reached, and in which a
    forward is too dear to move one pixel after another. ``None`` if the network still agrees with
    the label in the end.
    """
    return _greedy(task, most, _prefixes)


def _greedy(
    task: TargetSearch,
    most: float,
    tried: Callable[[TargetSearch, np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray | None:
    """The best of what is tried, again and again, while it helps."""
    image, margin = task.clean, task.margin(task.clean)
    while task.count(image) < most and not task.late:
        tries = tried(task, image, _slope(task, image))
        tries = tries[[task.count(one) <= most for one in tries]]
        if not len(tries):
            return None
        task.programs += 1
        best, before = tries[int(task.guessed(tries).argmax())], margin
        margin = task.margin(best)
        if margin <= before:
            return None
        image = best
        if margin >= task.least_margin:
            return image
    return None


def _slope(task: TargetSearch, image: np.ndarray) -> np.ndarray:
    """The property's gradient; where every path is inactive, that of the leaking copy."""
    gradient = property_rows(task, task.reading(image))[0][0]
    if gradient.any():
        return gradient
    return property_rows(task, task.network.leaking().at(image))[0][0]


def _tries(task: TargetSearch, image: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """The image with one more pixel at a corner of its range, for the best columns."""
    corners, gains = _columns(task, image, gradient)
    order = largest(gains.ravel(), task.settings.candidates)
    tries = np.repeat(image[None], len(order), axis=0)
    for row, place in enumerate(order):
        side, channel, y, x = np.unravel_index(place, gains.shape)
        chosen = slice(None) if task.settings.together else channel
        tries[row, chosen, y, x] = corners[side][chosen, y, x]
    return tries


def _columns(
    task: TargetSearch, image: np.ndarray, gradient: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Both corners of every pixel, and what going there would gain, ``(2, 1 or c, h, w)``."""
    moves = task.moves(gradient)
    corners = [np.clip(task.clean + side, 0.0, 1.0) for side in (moves.towards, moves.away)]
    gains = [gradient * (corner - image) for corner in corners]
    if task.settings.together:
        gains = [gain.sum(0, keepdims=True) for gain in gains]
    return corners, np.stack(gains)


def _prefixes(task: TargetSearch, image: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """The image with its 1, 2, 4, … columns of the largest gains at their corners."""
    corners, gains = _columns(task, image, gradient)
    side = gains.argmax(0)
    gain = gains.max(0)
    corner = np.where(side == 0, *corners)
    sizes = 2 ** np.arange(_DOUBLINGS)
    sizes = sizes[sizes <= max(1, int((gain > 0).sum()))]
    order, tries = largest(gain.ravel(), int(sizes[-1])), list[np.ndarray]()
    for size in sizes:
        mask = np.zeros(gain.size, dtype=bool)
        mask[order[:size]] = True
        tries.append(np.where(mask.reshape(gain.shape), corner, image))
    return np.stack(tries)
