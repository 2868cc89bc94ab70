"""Which synapses decide a class (NNSlicer, Zhang et al. 2020; DARE, section 3.1.1), as tensors.

Profiling: the mean value of every neuron over all images, and over each class,
``Δy = mean_class - mean_all`` (Formula 1). Backwards from the class's output neuron, with
``CONTRIB = 1``:

``contrib_h = CONTRIB_n · Δy_n · w_hn · Δy_h`` (Formula 2), ``CONTRIB_h += sign(contrib_h)``,

the same for the synapse. Since signs multiply, a layer's sums are one matrix product,
``CONTRIB_h = sign(Δy_h) · Σ_n sign(CONTRIB_n Δy_n) · Σ sign(w_hn)``, for all classes at once.
``plain.py`` is the same by loops over neurons.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from suture import notebook
from suture.bounds.shapes import Add
from suture.errors import ArgumentError, DataError
from suture.repairs.dare.graph import (
    Layer,
    Sliceable,
    carried,
    sliceable,
    unit_values,
    units,
    value_node,
    values_at,
)
from suture.types import LabelledImages, OnDone


@dataclass(frozen=True, eq=False)
class Slices:
    """The contributions of every synapse to every class, and what is key among them.

    Attributes:
        graph: the network.
        delta: node → ``Δy`` of its neurons, float64 ``(classes, units)``.
        contributions: node → ``CONTRIB`` of its neurons, float64 ``(classes, units)``.
        q: percent of a layer's synapses that are key.
    """

    graph: Sliceable
    delta: dict[int, Tensor]
    contributions: dict[int, Tensor]
    q: float

    @property
    def classes(self) -> int:
        """How many classes there are slices of."""
        return len(self.delta[0])

    def _repr_html_(self) -> str:
        """For notebooks: how many neurons of each layer are touched by key synapses, by class."""
        found = [self.key_neurons(label) for label in range(self.classes)]
        layers = [(layer.name, len(found[0][layer.name])) for layer in self.graph.layers]
        rows = [(name, size, *(int(one[name].sum()) for one in found)) for name, size in layers]
        title = f"key neurons, q = {self.q:g} %"
        return notebook.table(title, ("layer", "neurons", *map(str, range(self.classes))), rows)

    @cached_property
    def _neuron_contributions(self) -> dict[str, Tensor]:
        """Layer → ``CONTRIB_n · Δy_n`` of its neurons ``(classes, out)``."""
        return {
            layer.name: self.contributions[layer.node] * self.delta[layer.output]
            for layer in self.graph.layers
        }

    def contrib(self, layer: Layer, label: int) -> Tensor:
        """``contrib`` of every synapse of a layer for a class (Formula 2), as its weight is shaped.

        Its sign is the synapse's ``CONTRIB``.
        """
        weight = layer.weight()
        own = self._neuron_contributions[layer.name][label].reshape(-1, *(1,) * (weight.ndim - 1))
        return own * weight * _sources(layer, self.delta[layer.source][label])

    def key(self, layer: Layer, label: int) -> Tensor:
        """The layer's key synapses for a class: bool, as its weight is shaped.

        The ``q`` percent with the largest contribution, layer by layer. ``CONTRIB`` of a synapse
        is -1, 0 or 1: among equals the larger ``contrib`` goes first, then the earlier synapse.
        """
        return largest(self.contrib(layer, label), self.q)

    def key_neurons(self, label: int) -> dict[str, Tensor]:
        """Layer → bool ``(out,)``: the neurons that a key synapse ends or begins at."""
        return {name: count > 0 for name, count in self.touching(label).items()}

    def touching(self, label: int) -> dict[str, Tensor]:
        """Layer → float64 ``(out,)``: how many key synapses end or begin at each neuron."""
        keys = {layer.node: self.key(layer, label) for layer in self.graph.layers}
        begun = self._begun(keys)
        return {
            layer.name: keys[layer.node].flatten(1).sum(1) + begun[layer.node]
            for layer in self.graph.layers
        }

    def scores(self, label: int) -> dict[str, Tensor]:
        """Layer → float64 ``(out,)``: summed ``contrib`` of the synapses that begin there.

        Ours. What a neuron hands on to the class. Nothing begins at the last layer: its score is 1
        for the class itself. Where every neuron touches some key synapse, this still chooses.
        """
        amounts = {layer.node: self.contrib(layer, label) for layer in self.graph.layers}
        begun = self._begun(amounts)
        found = {layer.name: begun[layer.node] for layer in self.graph.layers}
        last = self.graph.layers[-1].name
        found[last] = nn.functional.one_hot(torch.tensor(label), len(found[last])).double()
        return found

    def _begun(self, amounts: dict[int, Tensor]) -> dict[int, Tensor]:
        """Node → sums of what is said of the synapses that begin at its neurons."""
        network, layers = self.graph.network, {layer.node: layer for layer in self.graph.layers}
        begun = {i: torch.zeros(units(n.shape)) for i, n in enumerate(network.nodes)}
        for i in range(len(network.nodes) - 1, 0, -1):
            if i in layers:
                source = network.nodes[i].inputs[0]
                begun[source] = begun[source] + _begins(layers[i], amounts[i])
                continue
            for source in network.nodes[i].inputs:
                begun[source] = begun[source] + carried(network, i, begun[i])
        return begun


def _begins(layer: Layer, amounts: Tensor) -> Tensor:
    """Sums over the synapses that begin at each neuron that a layer reads; keys are counted."""
    groups, inputs = layer.groups, amounts.shape[1]
    flat = amounts.flatten(2).sum(2) if amounts.ndim > 2 else amounts
    return flat.double().reshape(groups, -1, inputs).sum(1).flatten()


def _sources(layer: Layer, values: Tensor) -> Tensor:
    """The values of the neurons that each synapse begins at, broadcast against the weight."""
    weight, groups = layer.op.weight, layer.groups
    if groups == 1:
        return values.reshape(1, -1, *(1,) * (weight.ndim - 2))
    own = values.reshape(groups, -1).repeat_interleave(len(weight) // groups, 0)
    return own.reshape(*weight.shape[:2], *(1,) * (weight.ndim - 2))


def largest(values: Tensor, q: float) -> Tensor:
    """Mask of the largest ``q`` percent; among equals the earlier ones.

    >>> largest(torch.tensor([3.0, 1.0, 2.0, 1.0]), 75).tolist()
    [True, True, True, False]
    """
    flat = values.flatten()
    drop = math.floor((100.0 - q) / 100.0 * len(flat) + 1e-9)
    if drop == 0:
        return torch.ones_like(values, dtype=torch.bool)
    threshold = flat.kthvalue(drop).values
    above, equal = flat > threshold, flat == threshold
    room = len(flat) - drop - int(above.sum())
    return (above | (equal & (equal.cumsum(0) <= room))).reshape(values.shape)


def slice_classes(
    model: nn.Module,
    batch: LabelledImages,
    *,
    q: float = 95.0,
    classes: int | None = None,
    batch_size: int = 64,
    on_done: OnDone | None = None,
) -> Slices:
    """Slice a classifier for every class at once.

    Args:
        model: a classifier of the supported layers.
        batch: the images whose means count, of all classes.
        q: percent of each layer's synapses that are key (paper: 95).
        classes: how many; default: the model's.
        batch_size: images per forward; values of few images stay in the processor's cache.
        on_done: called as ``on_done(images finished, images)``.

    Raises:
        ArgumentError: q out of (0, 100].
        DataError: a class without images.
        ModelError: an unsupported operation.
    """
    if not 0 < q <= 100:
        raise ArgumentError(
            expected="q in (0, 100], a percentage",
            got=f"q={q!r}",
            remedy="The paper keeps 95 percent of the synapses.",
        )
    graph = sliceable(model, batch.shape)
    count = classes or units(graph.network.out_shape)
    delta = profile(graph, batch, count, batch_size, on_done)
    return Slices(graph, delta, contributions(graph, delta), q)


@torch.no_grad()
def profile(
    graph: Sliceable,
    batch: LabelledImages,
    classes: int,
    batch_size: int,
    on_done: OnDone | None = None,
) -> dict[int, Tensor]:
    """``Δy`` of all neurons that contributions ask about: node → ``(classes, units)``, float64.

    Raises:
        DataError: a class without images.
    """
    counts = batch.labels.cpu().bincount(minlength=classes).to(torch.float64)
    _check_counts(counts)
    wanted = _asked(graph)
    shapes = {i: units(graph.network.nodes[i].shape) for i in wanted}
    sums = {i: torch.zeros(classes, n, dtype=torch.float64) for i, n in shapes.items()}
    done = 0
    for piece in batch.split(batch_size):
        member = nn.functional.one_hot(piece.labels, classes).to(torch.float64).T.cpu()
        for i, value in values_at(graph.network, piece.images, wanted).items():
            sums[i] += member @ unit_values(value).cpu().to(torch.float64)
        done += len(piece)
        if on_done is not None:
            on_done(done, len(batch))
    return {i: s / counts[:, None].cpu() - s.sum(0) / len(batch) for i, s in sums.items()}


def _check_counts(counts: Tensor) -> None:
    if not bool((counts > 0).all()):
        empty = [str(c) for c in (counts == 0).nonzero()[:, 0].tolist()]
        raise DataError(
            expected="images of every class, to tell a class from the mean",
            got=f"none of class {', '.join(empty)}",
            remedy="Give more images.",
        )


def _asked(graph: Sliceable) -> set[int]:
    """Nodes whose ``Δy`` enters a contribution; the input is always among them."""
    wanted = {0, *(layer.source for layer in graph.layers)}
    wanted |= {layer.output for layer in graph.layers}
    for i, node in enumerate(graph.network.nodes):
        if isinstance(node.op, Add):
            wanted |= {*node.inputs, value_node(graph, i)}
    return wanted


def contributions(graph: Sliceable, delta: dict[int, Tensor]) -> dict[int, Tensor]:
    """``CONTRIB`` of every node's neurons: node → ``(classes, units)``.

    Batch norm, activations, pooling and flattening hand on what they get. A sum has one synapse
    of weight 1 to the same neuron of each branch.
    """
    network = graph.network
    layers = {layer.node: layer for layer in graph.layers}
    classes = len(delta[0])
    contrib = {
        i: torch.zeros(classes, units(n.shape), dtype=torch.float64)
        for i, n in enumerate(network.nodes)
    }
    contrib[len(network.nodes) - 1] += torch.eye(classes, units(network.out_shape))
    for i in range(len(network.nodes) - 1, 0, -1):
        for source, amount in _handed(graph, i, layers, contrib[i], delta):
            contrib[source] = contrib[source] + amount
    return contrib


def _handed(
    graph: Sliceable, i: int, layers: dict[int, Layer], own: Tensor, delta: dict[int, Tensor]
) -> Iterable[tuple[int, Tensor]]:
    """What a node adds to the contributions of those that it reads."""
    node = graph.network.nodes[i]
    if i in layers:
        layer = layers[i]
        signs = (own * delta[layer.output]).sign() @ _sign_sums(layer)
        yield layer.source, signs * delta[layer.source].sign()
    elif isinstance(node.op, Add):
        influence = (own * delta[value_node(graph, i)]).sign()
        yield node.inputs[0], influence * delta[node.inputs[0]].sign()
        yield node.inputs[1], influence * delta[node.inputs[1]].sign() * node.op.sign
    else:
        yield node.inputs[0], carried(graph.network, i, own)


def _sign_sums(layer: Layer) -> Tensor:
    """``(out, in)``: the signs of the synapses between two neurons, summed over the kernel."""
    signs = layer.weight().sign()
    signs = signs.flatten(2).sum(2) if signs.ndim > 2 else signs
    if layer.groups == 1:
        return signs
    out, inputs = len(signs) // layer.groups, signs.shape[1]
    wide = signs.new_zeros(len(signs), layer.groups * inputs)
    for group in range(layer.groups):
        rows = slice(group * out, (group + 1) * out)
        wide[rows, group * inputs : (group + 1) * inputs] = signs[rows]
    return wide
