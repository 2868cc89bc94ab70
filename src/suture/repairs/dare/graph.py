"""A network as slicing sees it: neurons, layers whose weights are synapses, what lies between.

A *neuron* is a feature of a flat value, or a channel of a spatial one; its value is then the mean
over the positions (paper, section 3.1.1). A *layer* is a linear layer or a convolution. Its
neurons' values stand behind the batch norm that is folded into it and behind its activation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from suture.bounds import read
from suture.bounds.activations import Relu, SShaped
from suture.bounds.affine import BatchNorm, Conv, Linear, Scale
from suture.bounds.network import Network
from suture.bounds.pooling import MaxPool
from suture.bounds.shapes import Add, Mean, Pad, ReshapeOp
from suture.errors import ModelError

_CHANNELWISE = (Relu, SShaped, BatchNorm, Scale, MaxPool, Mean, Pad, Conv)
"""Operations that hand a neuron's contribution to the same neuron before them (``Conv``: average
pooling, which the reader writes as a convolution of every channel by itself)."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer or a convolution.

    Attributes:
        name: of its weight in the model.
        node: where it stands in the network.
        source: the node it reads.
        output: the node with its neurons' values: behind a folded batch norm and an activation.
        op: the operation, with the model's own weight ``(out, in / groups, …)``.
        norm: the batch norm that is folded into it, or ``None``.
    """

    name: str
    node: int
    source: int
    output: int
    op: Linear | Conv
    norm: BatchNorm | None

    def weight(self) -> Tensor:
        """The weight with the batch norm folded in: float64, on the CPU, without gradient."""
        weight = self.op.weight.detach().cpu().to(torch.float64)
        if self.norm is None:
            return weight
        scale = self.norm.scale().scale
        assert scale is not None
        return weight * scale.detach().cpu().to(weight).reshape(-1, *(1,) * (weight.ndim - 1))

    @property
    def groups(self) -> int:
        """Groups of a convolution; 1 for a linear layer."""
        return self.op.groups if isinstance(self.op, Conv) else 1


@dataclass(frozen=True, eq=False)
class Sliceable:
    """A classifier's network and its layers, in order of execution."""

    network: Network
    layers: tuple[Layer, ...]

    def users(self, node: int) -> list[int]:
        """The nodes that read one."""
        return [i for i, other in enumerate(self.network.nodes) if node in other.inputs]


def sliceable(model: nn.Module, in_shape: tuple[int, ...]) -> Sliceable:
    """Read a classifier: linear layers, convolutions, batch norm, activations, pooling, dropout,
    flattening, sums.

    Args:
        model: the classifier; its parameters are shared, not copied.
        in_shape: ``(c, h, w)``.

    Raises:
        ModelError: an operation through which contributions are not defined, or a weight that
            two layers share.
    """
    network = read(model, tuple(in_shape))
    names = {id(p): name for name, p in model.named_parameters(remove_duplicate=True)}
    found: list[Layer] = []
    for i, node in enumerate(network.nodes):
        if isinstance(node.op, Linear | Conv) and id(node.op.weight) in names:
            found.append(_layer(network, i, node.op, names[id(node.op.weight)]))
        elif i and not _known(network, i):
            raise _unknown(f"the operation {type(node.op).__name__}")
    if len({layer.name for layer in found}) < len(found):
        raise _unknown("a weight that several layers share")
    if not found or found[-1].output != len(network.nodes) - 1:
        raise _unknown("a network that does not end with a linear layer")
    return Sliceable(network, tuple(found))


def _known(network: Network, i: int) -> bool:
    op, shapes = network.nodes[i].op, [network.nodes[s].shape for s in network.nodes[i].inputs]
    if isinstance(op, ReshapeOp):
        return len(op.after) == 1 or op.before == op.after
    if isinstance(op, Conv):
        return op.groups == shapes[0][0] == network.nodes[i].shape[0]
    return isinstance(op, (Add, *_CHANNELWISE))


def _unknown(what: str) -> ModelError:
    return ModelError(
        expected="layers that contributions are defined for (linear, convolution, batch norm, "
        "activations, pooling, flatten, sums)",
        got=what,
        remedy="Write the model with these; views other than flatten have no neurons of their own.",
    )


def _layer(network: Network, i: int, op: Linear | Conv, name: str) -> Layer:
    users = [[j for j, n in enumerate(network.nodes) if i in n.inputs] for i in _all(network)]
    norm, output = None, i
    follower = network.nodes[users[i][0]].op if len(users[i]) == 1 else None
    if isinstance(follower, BatchNorm):
        norm, output = follower, users[i][0]
    return Layer(name, i, network.nodes[i].inputs[0], _activated(network, output), op, norm)


def _all(network: Network) -> range:
    return range(len(network.nodes))


def _activated(network: Network, node: int) -> int:
    """The node behind the activation that alone reads ``node``, if there is one."""
    users = [j for j, other in enumerate(network.nodes) if node in other.inputs]
    if len(users) == 1 and isinstance(network.nodes[users[0]].op, Relu | SShaped):
        return users[0]
    return node


def value_node(graph: Sliceable, node: int) -> int:
    """Where the value of the neurons at ``node`` stands: their layer's or sum's output."""
    for layer in graph.layers:
        if layer.node == node:
            return layer.output
    return _activated(graph.network, node)


def observed(graph: Sliceable, layer: Layer) -> int:
    """The node at which a layer is watched: its output, or the sum that it alone goes into.

    In a residual network the last convolution is one branch of a sum; what the layer after it
    reads is the sum.
    """
    node = layer.output
    while True:
        users = graph.users(node)
        if len(users) != 1 or not isinstance(graph.network.nodes[users[0]].op, Add):
            return node
        node = _activated(graph.network, users[0])


def unit_values(value: Tensor) -> Tensor:
    """Neurons' values ``(n, units)``: features as they are, channels as means over positions."""
    return value if value.ndim == 2 else value.flatten(2).mean(2)


def units(shape: tuple[int, ...]) -> int:
    """How many neurons a value of that shape has."""
    return shape[0]


def carried(network: Network, node: int, amounts: Tensor) -> Tensor:
    """What a node's neurons hand to those it reads, where it has no synapses.

    One to one; behind a flattening a channel gets the sum over its features.

    Args:
        amounts: ``(…, units of node)``.

    Returns:
        ``(…, units of what it reads)``.
    """
    op = network.nodes[node].op
    if isinstance(op, ReshapeOp) and op.before != op.after:
        positions = math.prod(op.before[1:])
        return amounts.unflatten(-1, (op.before[0], positions)).sum(-1)
    return amounts


def upstream(network: Network, node: int) -> set[int]:
    """A node and all that it needs."""
    needed, stack = {node}, [node]
    while stack:
        for source in network.nodes[stack.pop()].inputs:
            if source not in needed:
                needed.add(source)
                stack.append(source)
    return needed


def values_at(network: Network, images: Tensor, wanted: set[int]) -> dict[int, Tensor]:
    """The values of some nodes for images ``(n, c, h, w)``; others are freed on the way."""
    last_use = {i: i for i in range(len(network.nodes))}
    for i, node in enumerate(network.nodes):
        for source in node.inputs:
            last_use[source] = i
    values: dict[int, Tensor] = {0: images}
    end = max(wanted)
    for i, node in enumerate(network.nodes[: end + 1]):
        if i:
            values[i] = node.op.forward(*(values[s] for s in node.inputs))
        for source in (*node.inputs, i):
            if last_use[source] <= i and source not in wanted:
                values.pop(source, None)
    return {i: values[i] for i in wanted}
