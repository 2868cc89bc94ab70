"""Linear lower bounds, substituted from any node back to the input (CROWN, Zhang et al. 2018;
DeepPoly's back-substitution, Singh et al. 2019, is the same computation).

An upper bound of y is minus a lower bound of -y, so lower bounds are all there is here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from suture.bounds import kernels
from suture.bounds.activations import (
    Relaxation,
    Relu,
    SShaped,
    bound_backward_dense,
    bound_backward_windows,
)
from suture.bounds.affine import Conv
from suture.bounds.coefficients import Patches, merged
from suture.bounds.ibp import Interval
from suture.bounds.network import Network, Node
from suture.bounds.pooling import MaxPool

Rows = Tensor | Patches
Known = Mapping[int, Interval]
"""Bounds of the values that activations and max poolings read, by node."""


def back_substitute(
    network: Network,
    start: int,
    rows: Rows,
    known: Known,
    relaxations: Mapping[int, Relaxation],
    add: Tensor | float = 0.0,
    *,
    stop: int = 0,
    extra: Mapping[int, Tensor] | None = None,
) -> tuple[Rows, Tensor]:
    """Coefficients and constants, in terms of the input, of a lower bound of ``rows · node``.

    Args:
        start: the node that ``rows`` speak of.
        rows: ``(n or 1, rows, *shape of the node)``, or patches on it.
        known: bounds of every node that a max pooling reads.
        relaxations: of every activation before ``start``.
        add: constants that the rows have already, ``(n or 1, rows)``.
        stop: the node to end at, if every path passes it; 0 is the input.
        extra: coefficients that are added to the rows at a node, ``(n, 1, *shape)``: what a
            constraint on the node's value is worth.

    Returns:
        ``rows'`` and ``add'`` with ``rows'·x + add' <= rows·node(x) + add`` on the whole box.
    """
    at: dict[int, Rows] = {start: rows}
    total: Any = add
    for index in range(start, stop, -1):
        if index not in at:
            continue
        node, rows = network.nodes[index], at.pop(index)
        if extra is not None and index in extra:
            rows = _dense(rows) + extra[index]
        parts, constant = _through(node, rows, known, relaxations.get(index))
        total = total + constant
        for source, part in zip(node.inputs, parts, strict=True):
            at[source] = _sum(at[source], part) if source in at else part
    return at[stop], total


def _through(
    node: Node, rows: Rows, known: Known, relaxation: Relaxation | None
) -> tuple[list[Any], Any]:
    if isinstance(rows, Patches):
        found = _patches_through(node, rows, known, relaxation)
        if found is not None:
            return found
        rows = rows.dense()
    op: Any = node.op
    if isinstance(op, Relu | SShaped):
        assert relaxation is not None
        out, constant = bound_backward_dense(rows, relaxation)
        return [out], constant
    if op.bounded:
        out, constant = op.bound_backward(rows, *known[node.inputs[0]])
        return [out], constant
    parts, constant = op.bound_backward(rows)
    return parts, constant


def _patches_through(
    node: Node, rows: Patches, known: Known, relaxation: Relaxation | None
) -> tuple[list[Any], Any] | None:
    """Through operations that keep windows small; ``None`` where the dense form must go on."""
    op: Any = node.op
    if rows.wasteful and not isinstance(op, Relu | SShaped):
        return None
    if isinstance(op, Relu | SShaped):
        assert relaxation is not None
        value, constant = bound_backward_windows(rows.value, relaxation, rows.gather)
        return [rows.replaced(value)], _flat(constant)
    if isinstance(op, MaxPool):
        found = op.bound_backward_patches(rows, *known[node.inputs[0]])
        return None if found is None else ([found[0]], _flat(found[1]))
    if op.windowed:
        out, constant = op.bound_backward_patches(rows)
        return [out], _flat(constant)
    if len(node.inputs) == 2:
        parts, constant = op.bound_backward(rows)
        return parts, constant
    return None


def _flat(constant: Any) -> Any:
    """``(n, rows, places)`` as ``(n, rows · places)``."""
    return constant.flatten(1) if isinstance(constant, Tensor) and constant.ndim == 3 else constant


def _sum(first: Rows, second: Rows) -> Rows:
    if isinstance(first, Patches) and isinstance(second, Patches):
        both = merged(first, second)
        if both is not None:
            return both
    return _dense(first) + _dense(second)


def _dense(rows: Rows) -> Tensor:
    return rows.dense() if isinstance(rows, Patches) else rows


def concretise(rows: Rows, add: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The smallest value ``rows·x + add`` on the box: ``rows·middle - |rows|·radius + add``.

    Args:
        rows: ``(n or 1, rows, *in_shape)`` or patches.
        lower, upper: ``(n, *in_shape)``.

    Returns:
        ``(n, rows)``; NaN where nothing is known. No value is +inf: that is an overflow.
    """
    found = _least(rows, lower, upper) + add
    return torch.where(found == float("inf"), float("nan"), found)


def _least(rows: Rows, lower: Tensor, upper: Tensor) -> Tensor:
    if isinstance(rows, Tensor) and len(rows) == len(lower) and kernels.plain(rows, lower, upper):
        return kernels.least(rows.flatten(2), lower.flatten(1), upper.flatten(1))
    middle, radius = (upper + lower) / 2, (upper - lower) / 2
    if isinstance(rows, Patches):
        value = rows.value
        terms = value * rows.gather(middle) - value.abs() * rows.gather(radius)
        return terms.flatten(3).sum(-1).flatten(1)
    flat, middle, radius = rows.flatten(2), middle.flatten(1), radius.flatten(1)
    if rows.shape[0] == 1:
        return middle @ flat[0].T - radius @ flat[0].abs().T
    # Elementwise: batched products of a matrix and a vector are several times slower.
    return (flat * middle[:, None]).sum(-1) - (flat.abs() * radius[:, None]).sum(-1)


def unit_rows(
    network: Network, index: int, channel: Tensor | None, place: Tensor, like: Tensor
) -> tuple[int, Rows, Tensor | float]:
    """Unit vectors for some neurons of a node, then their negatives, where possible already
    substituted through the node's own operation (a row of a matrix, the kernel of a convolution).

    Args:
        channel: ``(rows, 1)``: these channels at each of the places; ``None``: places are flat
            positions in the node's value.
        place: ``(k,)`` positions; of a linear layer also ``(n, k)``, others for each example.
        like: for dtype and device.

    Returns:
        the node that the rows speak of; the rows; constants ``(1 or n, rows)``.
    """
    node = network.nodes[index]
    op: Any = node.op
    if isinstance(op, Conv):
        return node.inputs[0], *_kernels(op, node, channel, place)
    if op.dense:
        weight, bias = op.rows(place)
        return node.inputs[0], torch.cat([weight, -weight], 1), torch.cat([bias, -bias], 1)
    unit = like.new_zeros(1, len(place), size_of(node))
    unit[0, torch.arange(len(place), device=like.device), place] = 1
    return index, torch.cat([unit, -unit], 1).view(1, -1, *node.shape), 0.0


def _kernels(
    op: Conv, node: Node, channel: Tensor | None, place: Tensor
) -> tuple[Patches, Tensor | float]:
    _, height, width = node.shape
    if channel is None:
        channel, place = (place // (height * width))[None], place % (height * width)
    patches = op.windows(channel, place // width, place % width)
    value = patches.value
    both = Patches(torch.cat([value, -value], 1), patches.top, patches.left, patches.shape)
    if op.bias is None:
        return both, 0.0
    bias = op.bias[channel].expand(-1, len(place))
    return both, torch.cat([bias, -bias]).reshape(1, -1)


def size_of(node: Node) -> int:
    """How many numbers one value of a node holds."""
    return math.prod(node.shape)
