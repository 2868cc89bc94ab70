"""Pixels one by one: for networks so curved that no program reaches far beyond its phases."""

from __future__ import annotations

import numpy as np

from suture.attacks.aigent.region import property_rows
from suture.attacks.aigent.task import TargetSearch
from suture.solvers.ordering import largest


def one_by_one(task: TargetSearch, most: float) -> np.ndarray | None:
    """The pixel that helps most by the network's own answer, then the next, at most ``most``.

    The linear program of one pixel in the phases of the input so far is solved by looking: its
    ``candidates`` best columns are moved in turn, and the network itself says which helps most.
    ``None`` if the network still agrees with the label in the end.
    """
    image, margin = task.clean, task.margin(task.clean)
    while task.count(image) < most and not task.late:
        tries = _tries(task, image, _slope(task, image))
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
    moves = task.moves(gradient)
    corners = [np.clip(task.clean + side, 0.0, 1.0) for side in (moves.towards, moves.away)]
    gains = [gradient * (corner - image) for corner in corners]
    if task.settings.together:
        gains = [gain.sum(0, keepdims=True) for gain in gains]
    order = largest(np.stack(gains).ravel(), task.settings.candidates)
    tries = np.repeat(image[None], len(order), axis=0)
    for row, place in enumerate(order):
        side, channel, y, x = np.unravel_index(place, (2, *gains[0].shape))
        chosen = slice(None) if task.settings.together else channel
        tries[row, chosen, y, x] = corners[side][chosen, y, x]
    return tries
