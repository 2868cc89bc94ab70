"""A layered network's affine map between two of its layers, where phases are fixed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from suture.attacks.aigent.tail import Tail


@dataclass(frozen=True, eq=False)
class Span:
    """From the values z of one layer to those of a later one, in fixed phases.

    Attributes:
        slope, shift: the later values are ``slope @ z + shift``.
        phases, least: the phases hold where ``phases @ z >= least``.
    """

    slope: np.ndarray
    shift: np.ndarray
    phases: np.ndarray
    least: np.ndarray

    @staticmethod
    def of(tail: Tail, signs: list[np.ndarray], first: int, last: int) -> Span:
        """From layer ``first`` to layer ``last``.

        Args:
            tail: the layers, counted from 1.
            signs: ±1 for every neuron of layers 1, 2, …; those before ``last`` are used.
        """
        width = len(tail.biases[first - 1])
        slope, shift = np.eye(width), np.zeros(width)
        phases, least = [np.zeros((0, width))], [np.zeros(0)]
        for layer in range(first, last):
            side = signs[layer - 1]
            phases.append(side[:, None] * slope)
            least.append(-side * shift)
            active = (side > 0).astype(np.float64)
            weight, bias = tail.weights[layer], tail.biases[layer]
            slope = weight @ (active[:, None] * slope)
            shift = weight @ (active * shift) + bias
        return Span(slope, shift, np.vstack(phases), np.concatenate(least))


def signs_of(values: list[np.ndarray]) -> list[np.ndarray]:
    """±1 for each value: +1 where the ReLU lets it through or it is zero."""
    return [np.where(z >= 0, 1.0, -1.0) for z in values]


def onwards(tail: Tail, first: np.ndarray) -> list[np.ndarray]:
    """``[z_1, …, z_L]`` of a network whose first layer has the values ``first``, ``(…, width)``."""
    values = [first]
    for weight, bias in zip(tail.weights[1:], tail.biases[1:], strict=True):
        values.append(np.maximum(values[-1], 0.0) @ weight.T + bias)
    return values
