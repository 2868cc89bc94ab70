"""Does a slice choose? Switch neurons off, and see whose accuracy falls.

The slicer's own test (Zhang et al. 2020, NNSlicer): without its key neurons a class should suffer,
and others should not, and more than without as many others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from suture.errors import ArgumentError
from suture.repairs.dare.graph import Sliceable, units
from suture.repairs.dare.regression import Watch
from suture.repairs.dare.slicing import Slices
from suture.rng import Stream
from suture.types import LabelledImages

WAYS = ("key", "touched", "random", "weights", "change")
"""By summed contribution; by the number of key synapses that end or begin there; at random; by the
size of the weights that end there; by how much more they say of the class than of all."""


@dataclass(frozen=True)
class Knockout:
    """What is left without some neurons; shares of images in [0, 1].

    Attributes:
        way: how they were chosen.
        own, others: accuracy on the class, and on all other classes.
    """

    way: str
    own: float
    others: float


@torch.no_grad()
def ablated(graph: Sliceable, node: int, images: Tensor, off: Tensor) -> Tensor:
    """Logits where some neurons of a node say 0; channels of a feature map at all positions.

    Args:
        images: ``(n, c, h, w)``.
        off: bool ``(units,)``.
    """
    values = [images]
    for index, each in enumerate(graph.network.nodes[1:], start=1):
        value = each.op.forward(*(values[source] for source in each.inputs))
        if index == node:
            keep = (~off).to(value)
            value = value * keep.view(1, -1, *(1,) * (value.ndim - 2))
        values.append(value)
    return values[-1]


def ablation(
    slices: Slices, place: Watch, batch: LabelledImages, label: int, count: int, *, stream: Stream
) -> list[Knockout]:
    """Accuracy with all neurons ("none"), then without ``count`` of a layer, chosen in each way.

    Args:
        place: the layer (``watch``).
        batch: images that the slices have not seen.
        label: the class whose neurons are chosen.
        stream: of the random ones, of which five draws are averaged.

    Raises:
        ArgumentError: more neurons than there are.
    """
    width = units(slices.graph.network.nodes[place.node].shape)
    if not 1 <= count <= width:
        raise ArgumentError(
            expected=f"1 to {width} neurons of {place.layer}",
            got=str(count),
            remedy="A tenth of them is a start.",
        )
    none = torch.zeros(width, dtype=torch.bool)
    rows = [_measured(slices.graph, place, batch, label, "none", [none])]
    for way in WAYS:
        sets = [_top(score, count) for score in _scores(slices, place, batch, label, way, stream)]
        rows.append(_measured(slices.graph, place, batch, label, way, sets))
    return rows


def _scores(
    slices: Slices, place: Watch, batch: LabelledImages, label: int, way: str, stream: Stream
) -> list[Tensor]:
    """Per set of neurons to be chosen: a score a neuron, ``(units,)``."""
    layer = next(one for one in slices.graph.layers if one.name == place.layer)
    if way == "key":
        return [slices.scores(label)[place.layer]]
    if way == "touched":
        return [slices.touching(label)[place.layer]]
    if way == "random":
        return [
            torch.rand(len(layer.weight()), generator=stream.child(draw).generator())
            for draw in range(5)
        ]
    if way == "weights":
        return [layer.weight().abs().flatten(1).sum(1)]
    return [slices.delta[layer.output][label]]


def _top(score: Tensor, count: int) -> Tensor:
    off = torch.zeros(len(score), dtype=torch.bool)
    off[score.argsort(descending=True, stable=True)[:count]] = True
    return off


def _measured(
    graph: Sliceable, place: Watch, batch: LabelledImages, label: int, way: str, sets: list[Tensor]
) -> Knockout:
    own, others = 0.0, 0.0
    for off in sets:
        logits = [ablated(graph, place.node, piece.images, off) for piece in batch.split(256)]
        labels = batch.labels.to(batch.device)
        right = (torch.cat(logits).argmax(1) == labels).double()
        mine = labels == label
        own += float(right[mine].mean()) / len(sets)
        others += float(right[~mine].mean()) / len(sets)
    return Knockout(way, own, others)
