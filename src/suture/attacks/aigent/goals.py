"""What the values of a layer must fulfil, and the marks that say which way they may go.

Marks as Elboher, Gottschlich & Katz (2020) have them: a neuron *rises* if some path to the
property wants it larger, and *falls* if some path wants it smaller. They split a neuron that does
both into copies; here it keeps both marks, and its target is an equation. What one-sided marks
allow then holds in every phase: whoever has a rising neuron at its target or above and a falling
one at its target or below fulfils the property too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from suture.attacks.aigent.tail import Tail

Marking = Literal["split", "sign", "off"]
EXACT = 1e-7
"""What is missed by less counts as met: the solver's own tolerance."""


@dataclass(frozen=True, eq=False)
class Goal:
    """``matrix @ z >= right`` on a layer's values before their activation.

    Attributes:
        matrix: ``(k, neurons)``.
        right: ``(k,)``.
        rise, fall: bool ``(neurons,)``, its marks; both for a neuron that is marked both ways.
    """

    matrix: np.ndarray
    right: np.ndarray
    rise: np.ndarray
    fall: np.ndarray

    def short(self, values: np.ndarray) -> float:
        """By how much the values miss the goal; negative where they exceed it."""
        return float((self.right - self.matrix @ values).max(initial=-np.inf))


def wanted(target: int, others: Sequence[int], classes: int, margin: float) -> Goal:
    """The target's logit exceeds the others' by the margin: target up, those others down."""
    matrix = -np.eye(classes)[list(others)]
    matrix[:, target] = 1.0
    rise, fall = np.zeros(classes, dtype=bool), np.zeros(classes, dtype=bool)
    rise[target], fall[list(others)] = True, True
    return Goal(matrix, np.full(len(matrix), margin), rise, fall)


def led_back(
    tail: Tail, goal: Goal, layer: int, top: int, marking: Marking
) -> tuple[np.ndarray, np.ndarray]:
    """The goal's marks of layer ``top`` on layer ``layer``: ``(rise, fall)``.

    "split": along every weight. "sign": one mark a neuron, by the sign of its weighted sum (the
    paper's example; it does not say what a neuron with paths of both signs gets). "off": both.
    """
    rise, fall = goal.rise, goal.fall
    for index in range(top, layer, -1):
        weight = tail.weights[index - 1]
        if marking == "sign":
            total = weight.T @ (rise.astype(float) - fall)
            rise, fall = total > 0, total < 0
        else:
            up, down = weight > 0, weight < 0
            rise, fall = (
                (up & rise[:, None] | down & fall[:, None]).any(0),
                (up & fall[:, None] | down & rise[:, None]).any(0),
            )
    if marking == "off":
        return np.ones(len(rise), dtype=bool), np.ones(len(fall), dtype=bool)
    return rise, fall


def reached(values: np.ndarray, rise: np.ndarray, fall: np.ndarray) -> Goal:
    """The goal of having these values after the ReLU, or going beyond them as the marks allow.

    A value that the ReLU cuts off need not be met: at most zero is as good (the paper's Eq. 4).
    """
    low, high = (rise & (values > 0)).nonzero()[0], fall.nonzero()[0]
    unit = np.eye(len(values))
    matrix = np.vstack([unit[low], -unit[high]])
    right = np.concatenate([values[low], -np.maximum(values[high], 0.0)])
    return Goal(matrix, right, rise, fall)
