"""A network's last layers with one weight matrix changed: what they say, and their affine map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from suture.attacks.aigent.tail import Tail


@dataclass(frozen=True, eq=False)
class Patched:
    """The tail with ``change`` added to the weights of one layer.

    Args:
        tail: the layers.
        layer: 1 … L.
        change: ``(out, in)``.
        decoupled: whether the original weights go on deciding the phases (Sotoudeh & Thakur 2021).
    """

    tail: Tail
    layer: int
    change: np.ndarray
    decoupled: bool

    def outputs(self, entries: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Outputs ``(n, outputs)``, and the values that decide the phases, layer by layer."""
        deciding, carried, values = entries, entries, []
        for index, (weight, bias) in enumerate(
            zip(self.tail.weights, self.tail.biases, strict=True), start=1
        ):
            changed = weight + self.change if index == self.layer else weight
            carried = carried @ changed.T + bias
            deciding = deciding @ weight.T + bias if self.decoupled else carried
            values.append(deciding)
            if index < len(self.tail):
                active = deciding > 0
                carried = carried * active
                deciding = np.where(active, deciding, 0.0)
        return carried, values


@dataclass(frozen=True, eq=False)
class Local:
    """One input's affine map from the patched layer's values on, in that input's own phases.

    Attributes:
        inputs: a ``(in,)``, what the layer's weights meet.
        slope, shift: ``outputs = slope @ z + shift`` for the layer's values z.
        phases, least: ``(rows, out)``, ``(rows,)``: the phases hold where ``phases @ z >= least``.
        values: z ``(out,)`` without a patch.
    """

    inputs: np.ndarray
    slope: np.ndarray
    shift: np.ndarray
    phases: np.ndarray
    least: np.ndarray
    values: np.ndarray

    @staticmethod
    def of(tail: Tail, layer: int, entry: np.ndarray) -> Local:
        """The map at the tail's input ``entry``."""
        inputs, values = tail.values(entry)
        z = values[layer - 1]
        slope, shift = np.eye(len(z)), np.zeros(len(z))
        phases, least = [np.zeros((0, len(z)))], [np.zeros(0)]
        for index in range(layer, len(tail)):
            signs = np.where(values[index - 1] > 0, 1.0, -1.0)
            phases.append(signs[:, None] * slope)
            least.append(-signs * shift)
            active = (signs > 0).astype(np.float64)
            weight, bias = tail.weights[index], tail.biases[index]
            slope = weight @ (active[:, None] * slope)
            shift = weight @ (active * shift) + bias
        return Local(inputs[layer - 1], slope, shift, np.vstack(phases), np.concatenate(least), z)
