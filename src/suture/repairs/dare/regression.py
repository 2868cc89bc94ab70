"""The regression model: a classifier up to a layer, with a loss of its own for each class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from suture.errors import ArgumentError
from suture.repairs.dare.collecting import Collected
from suture.repairs.dare.graph import (
    Layer,
    Sliceable,
    observed,
    sliceable,
    unit_values,
    upstream,
    values_at,
)
from suture.repairs.dare.slicing import Slices


@dataclass(frozen=True, eq=False)
class Watch:
    """Where a classifier is watched.

    Attributes:
        layer: the layer ``l_{r-p}``.
        node: where its neurons' values stand.
    """

    layer: str
    node: int


def watch(graph: Sliceable, p: int) -> Watch:
    """The layer p before the last one that has weights (paper: p = 1, the penultimate one).

    Raises:
        ArgumentError: p is not below the number of layers.
    """
    count = len(graph.layers)
    if not 0 <= p < count:
        raise ArgumentError(
            expected=f"p from 0 to {count - 1} for a model with {count} layers",
            got=f"p={p}",
            remedy="The paper's p is 1: the layer before the last.",
        )
    layer = graph.layers[count - 1 - p]
    return Watch(layer.name, observed(graph, layer))


def tuned_layers(graph: Sliceable, node: int) -> list[Layer]:
    """The layers that the value at a node depends on."""
    needed = upstream(graph.network, node)
    return [layer for layer in graph.layers if layer.node in needed]


@dataclass(frozen=True, eq=False)
class Mask:
    """What may change for each class, as bool tensors.

    Attributes:
        neurons: ``(classes, units)`` at the watched layer: those in the loss (``N^c`` of
            Formula 3).
        synapses: weight's name → ``(classes, *weight.shape)``: those that get the class's
            gradient; ``None`` where all do, for every class.
    """

    neurons: Tensor
    synapses: dict[str, Tensor] | None


def masks(slices: Slices, place: Watch) -> Mask:
    """The key neurons of the watched layer, and the key synapses of the layers up to it."""
    classes = range(slices.classes)
    neurons = torch.stack([slices.key_neurons(label)[place.layer] for label in classes])
    synapses = {
        layer.name: torch.stack([slices.key(layer, label) for label in classes])
        for layer in tuned_layers(slices.graph, place.node)
    }
    return Mask(neurons, synapses)


def no_masks(classes: int, width: int) -> Mask:
    """Every neuron and every synapse, for every class (DARE without slicing)."""
    return Mask(torch.ones(classes, width, dtype=torch.bool), None)


@dataclass(frozen=True, eq=False)
class Regression:
    """A model as it is tuned: its weights, and the loss of a batch.

    Args:
        model: changed in place by whoever steps along the gradients.
        node: where it is watched; ``None`` for its logits and the cross entropy (DARE_-sl).
        mask: what counts for each class.
        in_shape: ``(c, h, w)``.
    """

    model: nn.Module
    node: int | None
    mask: Mask
    in_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_graph", sliceable(self.model, self.in_shape))

    @property
    def graph(self) -> Sliceable:
        """The network over the model's own weights."""
        graph: Sliceable = vars(self)["_graph"]
        return graph

    def weights(self) -> dict[str, Tensor]:
        """The weights that are tuned, by name: synapses only, no biases and no norms."""
        end = len(self.graph.network.nodes) - 1 if self.node is None else self.node
        return {layer.name: layer.op.weight for layer in tuned_layers(self.graph, end)}

    def losses(self, images: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        """Formula 3 for each image ``(n,)``; the cross entropy where the logits are watched."""
        if self.node is None:
            return cross_entropy(self.graph.network(images), labels, reduction="none")
        values = unit_values(values_at(self.graph.network, images, {self.node})[self.node])
        key = self.mask.neurons.to(labels.device)[labels].to(values)
        squared = (values - targets).square() * key
        return squared.sum(1) / key.sum(1).clamp_min(1)

    def gradients(self, images: Tensor, labels: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Gradients of the batch's mean loss, each class's part through its own mask."""
        weights = self.weights()
        if self.mask.synapses is None:
            loss = self.losses(images, labels, targets).mean()
            return _gradients(loss, weights)
        total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        for label in labels.unique().tolist():
            own = labels == label
            loss = self.losses(images[own], labels[own], targets[own]).sum() / len(labels)
            for name, gradient in _gradients(loss, weights).items():
                total[name] += gradient * self.mask.synapses[name][label].to(gradient.device)
        return total

    @torch.no_grad()
    def loss(self, collected: Collected, batch_size: int) -> float:
        """Mean loss over collected images."""
        assert collected.batch is not None
        parts = zip(
            collected.batch.split(batch_size), collected.targets.split(batch_size), strict=True
        )
        sums = [float(self.losses(b.images, b.labels, t).sum()) for b, t in parts]
        return sum(sums) / len(collected)


def _gradients(loss: Tensor, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(weights.values()))
    return dict(zip(weights, found, strict=True))
