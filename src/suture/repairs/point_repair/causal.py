"""Which hidden neurons cause a fault: average causal effects, by intervention (CARE, section 3)."""

from __future__ import annotations

import numpy as np

from suture.attacks.aigent.tail import Tail


def scaled_outputs(tail: Tail, first: np.ndarray, scales: list[np.ndarray]) -> np.ndarray:
    """Outputs ``(n, classes)`` with every hidden neuron's value times its scale.

    Args:
        first: ``(n, width)``, values of the first layer, before its ReLU.
        scales: one ``(width,)`` a hidden layer.
    """
    values = first
    for scale, weight, bias in zip(scales, tail.weights[1:], tail.biases[1:], strict=True):
        values = (np.maximum(values, 0.0) * scale) @ weight.T + bias
    return values


def lacking(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """``(n,)``: by how much the best wrong logit exceeds the label's."""
    own = np.take_along_axis(outputs, labels[:, None], 1)[:, 0]
    rest = outputs.copy()
    np.put_along_axis(rest, labels[:, None], -np.inf, 1)
    found: np.ndarray = rest.max(1) - own
    return found


def causal_effects(
    tail: Tail, entries: np.ndarray, labels: np.ndarray, levels: int
) -> list[np.ndarray]:
    """``max_β |ACE(β)|`` of every hidden neuron, one ``(width,)`` a hidden layer.

    ``ACE(β) = E[y | do(v = β)] - mean_β E[y | do(v = β)]`` with y what the inputs lack, the mean
    over the inputs, and β on ``levels`` steps from the least to the largest value of v on them.
    """
    values, effects = entries @ tail.weights[0].T + tail.biases[0], []
    for layer in range(1, len(tail)):
        active = np.maximum(values, 0.0)
        expected = _interventions(tail, layer, active, labels, levels)
        effects.append(np.abs(expected - expected.mean(1, keepdims=True)).max(1))
        values = active @ tail.weights[layer].T + tail.biases[layer]
    return effects


def _interventions(
    tail: Tail, layer: int, active: np.ndarray, labels: np.ndarray, levels: int
) -> np.ndarray:
    """``E[y | do(v = β)]``, ``(width, levels)``: the next layer moves by one column of weights."""
    weight = tail.weights[layer]
    following = active @ weight.T + tail.biases[layer]
    expected = np.zeros((active.shape[1], levels))
    for neuron in range(active.shape[1]):
        own = active[:, neuron]
        for step, level in enumerate(np.linspace(own.min(), own.max(), levels)):
            values = following + (level - own)[:, None] * weight[:, neuron]
            for after in range(layer + 1, len(tail)):
                values = np.maximum(values, 0.0) @ tail.weights[after].T + tail.biases[after]
            expected[neuron, step] = lacking(values, labels).mean()
    return expected
