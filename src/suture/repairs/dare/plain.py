"""Slicing as the equations stand: loops over images, classes, neurons and synapses.

The slow, obvious twin of ``slicing.py``, for tests and benchmarks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from suture.bounds.shapes import Add, ReshapeOp
from suture.repairs.dare.graph import Layer, Sliceable, units, value_node, values_at
from suture.types import Batch

Rows = list[list[float]]


def plain_profile(graph: Sliceable, batch: Batch, classes: int) -> dict[int, Rows]:
    """``Δy`` of every neuron: node → class → unit, one image and one neuron at a time."""
    nodes = range(len(graph.network.nodes))
    shapes = [units(graph.network.nodes[i].shape) for i in nodes]
    total = {i: [0.0] * shapes[i] for i in nodes}
    own = {i: [[0.0] * shapes[i] for _ in range(classes)] for i in nodes}
    counts = [0] * classes
    for index in range(len(batch)):
        label = int(batch.labels[index])
        counts[label] += 1
        with torch.no_grad():
            values = values_at(graph.network, batch.images[index : index + 1], set(nodes))
        for i in nodes:
            for unit in range(shapes[i]):
                value = _mean(values[i][0, unit])
                total[i][unit] += value
                own[i][label][unit] += value
    return {
        i: [
            [own[i][c][u] / counts[c] - total[i][u] / len(batch) for u in range(shapes[i])]
            for c in range(classes)
        ]
        for i in nodes
    }


def _mean(value: Tensor) -> float:
    """Mean over the positions of one channel, or the one feature."""
    numbers = value.flatten().tolist()
    return sum(numbers) / len(numbers)


def plain_contributions(
    graph: Sliceable, delta: dict[int, Rows], label: int
) -> tuple[dict[int, list[float]], dict[str, Tensor]]:
    """For one class, ``CONTRIB`` of every neuron (node → units), and ``contrib`` of every synapse.

    Formula 2, one synapse at a time, from the output neuron backwards.
    """
    network = graph.network
    layers = {layer.node: layer for layer in graph.layers}
    contrib = {i: [0.0] * units(n.shape) for i, n in enumerate(network.nodes)}
    contrib[len(network.nodes) - 1][label] = 1.0
    synapses: dict[str, Tensor] = {}
    for i in range(len(network.nodes) - 1, 0, -1):
        node = network.nodes[i]
        if i in layers:
            synapses[layers[i].name] = _through(layers[i], contrib, delta, label)
        elif isinstance(node.op, Add):
            _through_sum(graph, i, contrib, delta, label)
        else:
            _on(contrib[i], contrib[node.inputs[0]], node.op)
    return contrib, synapses


def _through(
    layer: Layer, contrib: dict[int, list[float]], delta: dict[int, Rows], label: int
) -> Tensor:
    """All synapses of a linear layer or convolution; every entry of a kernel is one."""
    weight = layer.weight()
    found = torch.zeros_like(weight)
    out, inputs = weight.shape[:2]
    kernel = math.prod(weight.shape[2:])
    above, below = delta[layer.output][label], delta[layer.source][label]
    for n in range(out):
        first = (n // (out // layer.groups)) * inputs
        for h in range(inputs):
            for k in range(kernel):
                w = float(weight[n, h].flatten()[k])
                value = contrib[layer.node][n] * above[n] * w * below[first + h]
                found[n, h].view(-1)[k] = value
                contrib[layer.source][first + h] += _sign(value)
    return found


def _through_sum(
    graph: Sliceable,
    i: int,
    contrib: dict[int, list[float]],
    delta: dict[int, Rows],
    label: int,
) -> None:
    """A sum: one synapse of weight 1 (a difference: -1) to the same neuron of each branch."""
    node = graph.network.nodes[i]
    above = delta[value_node(graph, i)][label]
    weights = (1.0, float(getattr(node.op, "sign", 1)))
    for source, weight in zip(node.inputs, weights, strict=True):
        for n in range(len(contrib[i])):
            value = contrib[i][n] * above[n] * weight * delta[source][label][n]
            contrib[source][n] += _sign(value)


def _on(amounts: list[float], into: list[float], op: object) -> None:
    """One to one; a flattened channel gets what its features have."""
    positions = 1
    if isinstance(op, ReshapeOp) and op.before != op.after:
        positions = math.prod(op.before[1:])
    for index, amount in enumerate(amounts):
        into[index // positions] += amount


def _sign(value: float) -> float:
    return float((value > 0) - (value < 0))
