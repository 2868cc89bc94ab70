"""An input's values as an affine function of one layer's values and of the later layers' biases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from suture.attacks.aigent.tail import Tail


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """One input, its phases fixed: what follows from moving layer k and later biases.

    The unknown is ``x = (Δ, β_{k+1}, …, β_L)``: the change of layer k's values, then the changes of
    later biases (``later=False``: Δ alone).

    Attributes:
        inputs: ``(in + 1,)``, what layer k's weights meet, and a 1 for its bias (0 if it has none).
        slope, outputs: ``outputs + slope @ x`` are the network's outputs; ``(classes, x)``.
        phases, least: the input keeps its phases where ``phases @ x >= least``; ``(rows, x)``.
    """

    inputs: np.ndarray
    slope: np.ndarray
    outputs: np.ndarray
    phases: np.ndarray
    least: np.ndarray

    @staticmethod
    def of(
        tail: Tail,
        layer: int,
        entry: np.ndarray,
        *,
        later: bool,
        signs: np.ndarray | None = None,
        biased: Sequence[bool] = (),
    ) -> Sensitivity:
        """At the tail's input ``entry``.

        Args:
            layer: k, 1 … L.
            later: whether later biases are unknowns too.
            signs: 1 or -1 for every neuron of the layers k … L - 1, the phases; the input's own
                if left out.
        """
        biased = biased or [True] * len(tail)
        inputs, values = tail.values(entry)
        widths = [len(b) for b in tail.biases[layer - 1 :]]
        count = sum(widths) if later else widths[0]
        slope, value = np.eye(widths[0], count), values[layer - 1]
        phases, least, start = [np.zeros((0, count))], [np.zeros(0)], widths[0]
        own = signs if signs is not None else phases_of(tail, layer, entry)
        at = 0
        for index in range(layer, len(tail)):
            sign = own[at : at + len(value)]
            at += len(value)
            phases.append(sign[:, None] * slope)
            least.append(-sign * value)
            active = (sign > 0).astype(np.float64)
            weight, width = tail.weights[index], len(tail.biases[index])
            slope = weight @ (active[:, None] * slope)
            value = weight @ (active * value) + tail.biases[index]
            if later:
                slope[:, start : start + width] += float(biased[index]) * np.eye(width)
                start += width
        given = np.append(inputs[layer - 1], float(biased[layer - 1]))
        return Sensitivity(given, slope, value, np.vstack(phases), np.concatenate(least))


def phases_of(tail: Tail, layer: int, entry: np.ndarray) -> np.ndarray:
    """1 for every active neuron of the layers k … L - 1, -1 for every other one."""
    values = tail.values(entry)[1][layer - 1 : -1]
    return np.where(np.concatenate([np.zeros(0), *values]) > 0, 1.0, -1.0)
