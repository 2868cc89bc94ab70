"""Pixels one by one: for networks so curved that no program reaches far beyond its phases."""

from __future__ import annotations

import numpy as np

from suture.attacks.aigent.region import property_rows
from suture.attacks.aigent.task import TargetSearch


def one_by_one(task: TargetSearch, most: float) -> np.ndarray | None:
    """The pixel that helps most by the network's own answer, then the next, at most ``most``.

    The linear program of one pixel in the phases of the input so far is solved by looking: its
    ``candidates`` best columns are moved in turn, and the network itself says which helps most.
    ``None`` if the network still agrees with the label in the end.
    """
    image, margin = task.clean, float(task.margins(task.clean[None])[0])
    while task.count(image) < most and not task.late:
        gradients, _ = property_rows(task, task.network.at(image))
        tries = _tries(task, image, gradients[0])
        margins = task.margins(tries)
        task.programs += 1
        best = int(margins.argmax())
        if margins[best] <= margin:
            return None
        image, margin = tries[best], float(margins[best])
        if margin >= task.settings.margin / 2:
            return image
    return None


def _tries(task: TargetSearch, image: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """The image with one more pixel at a corner of its range, for the best columns."""
    moves = task.moves(gradient)
    corners = [np.clip(task.clean + side, 0.0, 1.0) for side in (moves.towards, moves.away)]
    gains = [gradient * (corner - image) for corner in corners]
    if task.settings.together:
        gains = [gain.sum(0, keepdims=True) for gain in gains]
    order = np.argsort(-np.stack(gains).ravel())[: task.settings.candidates]
    tries = np.repeat(image[None], len(order), axis=0)
    for row, place in enumerate(order):
        side, channel, y, x = np.unravel_index(place, (2, *gains[0].shape))
        chosen = slice(None) if task.settings.together else channel
        tries[row, chosen, y, x] = corners[side][chosen, y, x]
    return tries
