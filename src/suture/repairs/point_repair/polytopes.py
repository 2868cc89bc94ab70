"""APRNN on polytopes: what holds at the vertices of one, in one pattern, holds on all of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from suture.attacks.aigent.tail import Tail
from suture.errors import ArgumentError
from suture.repairs.point_repair.layer_program import (
    LayerChange,
    LayerDemand,
    LayerProgram,
    LayerWish,
)
from suture.repairs.point_repair.sensitivity import Sensitivity, phases_of
from suture.repairs.weight_patch import entries, linear_layers, tail_of
from suture.types import Box

MOST = 10
"""Coordinates in which a box may have a width: it has 2 to that power vertices."""


@dataclass(frozen=True, eq=False)
class VertexDemand:
    """A polytope by its vertices, and what the outputs must fulfil on all of it.

    Attributes:
        vertices: ``(v, *in_shape)``.
        rows, right: ``rows @ outputs >= right``; ``(k, classes)``, ``(k,)``.
    """

    vertices: Tensor
    rows: np.ndarray
    right: np.ndarray


def vertices_of(lower: Tensor, upper: Tensor) -> Tensor:
    """The corners of a box, ``(2 ** d, *shape)``, d being the coordinates with a width.

    Raises:
        ArgumentError: too many of them.
    """
    low, high = lower.flatten(), upper.flatten()
    wide = (high > low).nonzero()[:, 0].tolist()
    if len(wide) > MOST:
        raise ArgumentError(
            expected=f"boxes with a width in at most {MOST} coordinates",
            got=f"one with a width in {len(wide)}: 2^{len(wide)} vertices",
            remedy="Repair points, or use AdvRepair, which needs no vertices.",
        )
    corners = low.repeat(2 ** len(wide), 1)
    for number, sides in enumerate(itertools.product((False, True), repeat=len(wide))):
        for at, side in zip(wide, sides, strict=True):
            corners[number, at] = high[at] if side else low[at]
    return corners.reshape(-1, *lower.shape)


def boxes_of(box: Box, rows: Tensor, add: Tensor, margin: float) -> list[VertexDemand]:
    """``rows · F(x) + add >= margin`` on boxes ``(n, *in_shape)``; ``(n, k, classes)``, ``(n, k)``.

    Raises:
        ArgumentError: a box with too many vertices.
    """
    parts = zip(box.lower, box.upper, rows.double().numpy(), add.double().numpy(), strict=True)
    return [
        VertexDemand(vertices_of(low, high), own, margin - shift) for low, high, own, shift in parts
    ]


def polytope_change(
    model: nn.Module, layer: int, demands: Sequence[VertexDemand], wish: LayerWish
) -> LayerChange | None:
    """The smallest change of a layer (1 … L) with which the demands hold on all polytopes.

    Every vertex gets the pattern of its polytope's centre from that layer on. ``None`` where the
    layers before do not have one pattern on a polytope, which makes it no polytope there.
    """
    tail = tail_of(model)
    biased = [one.bias is not None for one in linear_layers(model)]
    made: list[LayerDemand] = []
    for demand in demands:
        given = entries(model, demand.vertices)
        if not _one_pattern(model, tail, layer, demand.vertices, given):
            return None
        signs = phases_of(tail, layer, given.mean(0))
        for entry in given:
            local = Sensitivity.of(tail, layer, entry, later=True, signs=signs, biased=biased)
            made.append(LayerDemand(local, demand.rows, demand.right))
    return LayerProgram(made, len(tail.biases[layer - 1]), wish).solve()


def _one_pattern(
    model: nn.Module, tail: Tail, layer: int, vertices: Tensor, given: np.ndarray
) -> bool:
    """Whether what enters the layer is affine on the vertices' hull.

    Where every unit before has one sign at all vertices it has that sign between them, layer by
    layer. A network with layers in front of its fully connected ones is affine there only if all
    ReLUs agree.
    """
    seen = list[Tensor]()
    hooks = [
        module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
        for module in _before(model, tail)
    ]
    with torch.no_grad():
        model(vertices)
    for hook in hooks:
        hook.remove()
    before = [value.flatten(1).double().numpy() for value in seen]
    before += [_layer_values(tail, index, given) for index in range(layer - 1)]
    return all(bool(((v >= 0).all(0) | (v <= 0).all(0)).all()) for v in before)


def _layer_values(tail: Tail, index: int, given: np.ndarray) -> np.ndarray:
    return np.stack([tail.values(entry)[1][index] for entry in given])


def _before(model: nn.Module, tail: Tail) -> list[nn.Module]:
    """The ReLUs in front of the fully connected layers."""
    every = list(model.modules())
    first = linear_layers(model)[0]
    return [m for m in every[: every.index(first)] if isinstance(m, nn.ReLU)]


Changed = Callable[[nn.Module, int, LayerChange], nn.Module]


def smallest_of(
    model: nn.Module,
    layers: Sequence[int],
    demands: Sequence[VertexDemand],
    wish: LayerWish,
    changed: Changed,
) -> tuple[nn.Module | None, list[dict[str, object]]]:
    """The repair of the layer with the least cost, and what became of every layer."""
    best, least, table = None, np.inf, list[dict[str, object]]()
    for layer in layers:
        change = polytope_change(model, layer, demands, wish)
        if change is None:
            why = "The layers before it have more than one pattern on a polytope."
            table.append({"layer": layer, "status": "not affine", "sentence": why})
            continue
        row = {"layer": layer, "status": change.status.name.lower()}
        table.append(row | {"sentence": change.status.value})
        if change.status.found and change.cost < least:
            best, least = changed(model, layer, change), change.cost
    return best, table
