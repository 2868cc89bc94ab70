"""CROWN (DeepPoly), CROWN-IBP and plain intervals behind one interface.

Bounds hold for exact arithmetic on the given numbers; the rounding of float32 is not covered.
Where a proof counts, use float64 and the outward slack of ``suture.certify``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from suture import memory
from suture.bounds.activations import Relaxation, Relu, SShaped
from suture.bounds.affine import BatchNorm, Conv, Linear, Scale
from suture.bounds.backward import Rows, back_substitute, concretise, size_of, unit_rows
from suture.bounds.ibp import Interval
from suture.bounds.network import Network, Op
from suture.bounds.pooling import MaxPool
from suture.bounds.shapes import PermuteOp, ReshapeOp
from suture.types import Box

Method = Literal["ibp", "crown-ibp", "crown", "alpha-crown"]
"""How bounds are made, from fast and loose to slow and tight."""
BUDGET = 3_000_000
"""Numbers that the rows of one backward pass may hold, 12 MB in float32: larger pieces leave the
cache."""
FAR_BUDGET = 64_000_000
"""The same on other devices, 256 MB in float32: there is no cache to stay in, and every piece costs
a hundred launches. Chosen by that reckoning, not measured."""
OWN = 3
"""How often as many numbers the weights may hold that examples have for themselves: 36 MB in
float32. Smaller pieces would stay in the cache, but each costs a hundred small operations."""


def budget(device: torch.device) -> int:
    """Numbers that the rows of one backward pass may hold there."""
    return BUDGET if device.type == "cpu" else FAR_BUDGET


@dataclass(frozen=True, eq=False)
class State:
    """What is known about the inside of a network on a box.

    Attributes:
        network: whose.
        box: inputs ``(n, *in_shape)``.
        known: bounds of every value that an activation or a max pooling reads, by node.
        relaxations: relaxation of every activation, by node.
        entry: the node up to which the box stays an exact box (normalisation, reshapes);
            substitution ends there.
        entry_box: its bounds.
    """

    network: Network
    box: Box
    known: dict[int, Interval]
    relaxations: dict[int, Relaxation]
    entry: int
    entry_box: Interval


def prepare(network: Network, box: Box, method: Method = "crown") -> State:
    """Bounds of every value that is not passed on linearly.

    With "crown" those that intervals leave unstable are tightened by a backward pass of their own;
    neurons that intervals prove stable are skipped, as nothing would change.
    """
    memory.keep()
    state = State(network, box, {}, {}, *_entry(network, box))
    found: list[Interval] = [(box.lower, box.upper)]
    linear = [0]
    for index, node in enumerate(network.nodes[1:], start=1):
        if node.op.relaxed or node.op.bounded:
            source = node.inputs[0]
            if method != "ibp" and source not in state.known:
                # What an activation or a pooling gave is monotone in bounds that are tight already.
                fresh = not isinstance(network.nodes[source].op, Relu | SShaped | MaxPool)
                if method == "crown" and linear[source] != 1 and fresh:
                    found[source] = _tightened(state, source, found[source], index)
                state.known[source] = found[source]
            if node.op.relaxed and method != "ibp":
                state.relaxations[index] = node.op.relaxation(*found[source])
        if index < len(network.nodes) - 1 or method == "ibp":
            parts = [found[i] for i in node.inputs]
            found.append(node.op.interval([p[0] for p in parts], [p[1] for p in parts]))
        linear.append(_mixings(node.op, [linear[i] for i in node.inputs]))
    if method == "ibp":
        state.known.update(enumerate(found))
    return state


def _entry(network: Network, box: Box) -> tuple[int, Interval]:
    """The last node of the first run of operations that treat every value by itself."""
    index, interval = 0, (box.lower, box.upper)
    for place, node in enumerate(network.nodes[1:], start=1):
        alone = sum(place - 1 in other.inputs for other in network.nodes) == 1
        if not isinstance(node.op, Scale | BatchNorm | ReshapeOp | PermuteOp) or not alone:
            break
        index = place
        interval = node.op.interval([interval[0]], [interval[1]])
    return index, interval


def _mixings(op: Op, before: list[int]) -> int:
    """How often values were mixed since the input, 2 for "too often": after the first time,
    intervals are still exact."""
    if op.relaxed or op.bounded or len(before) > 1:
        return 2
    return min(2, before[0] + op.mixes)


def _tightened(state: State, source: int, interval: Interval, reader: int) -> Interval:
    """The interval of a node, cut with what CROWN finds for the neurons that are still unstable."""
    lower, upper = (bound.flatten(1) for bound in interval)
    unstable = _unstable(state.network, reader, lower, upper)
    neurons = _chosen(unstable, state.network.nodes[source].op)
    if not neurons.numel():
        return interval
    below, above = neuron_bounds(state, source, neurons)
    if neurons.ndim == 1:
        neurons = neurons.expand(len(lower), -1)
    lower = lower.scatter(1, neurons, torch.fmax(lower.gather(1, neurons), below))
    upper = upper.scatter(1, neurons, torch.fmin(upper.gather(1, neurons), above))
    return lower.view_as(interval[0]), upper.view_as(interval[1])


def _unstable(network: Network, reader: int, lower: Tensor, upper: Tensor) -> Tensor:
    """Neurons ``(n, m)`` whose tighter bounds would change what the node that reads them does."""
    op = network.nodes[reader].op
    if not isinstance(op, Relu | SShaped):
        return op.matters(lower, upper)
    pooled = any(reader in n.inputs and isinstance(n.op, MaxPool) for n in network.nodes)
    if pooled and isinstance(op, Relu):
        # The pooling behind compares the values of active neurons too.
        return upper > 0
    return ~op.stable(lower, upper)


def _chosen(unstable: Tensor, op: object) -> Tensor:
    """Neurons to tighten: those that are unstable anywhere ``(k,)``, or for a linear layer, where
    that is less work, those of each example by itself ``(n, k)``, filled up with others."""
    anywhere = unstable.any(0).nonzero().flatten()
    most = int(unstable.sum(1).amax())
    if isinstance(op, Linear) and 2 * most < len(anywhere):
        return unstable.to(torch.uint8).topk(most, dim=1).indices
    return anywhere


def neuron_bounds(state: State, index: int, neurons: Tensor) -> Interval:
    """Lower and upper bounds ``(n, k)`` of some neurons of a node, in chunks that fit in memory.

    Args:
        neurons: flat positions ``(k,)``, or ``(n, k)`` of a linear layer.
    """
    node, n = state.network.nodes[index], len(state.box.lower)
    channel, place = None, neurons
    if isinstance(node.op, Conv) and 2 * neurons.shape[-1] > size_of(node):
        # Most are wanted: take every channel at every place, which shares windows of slopes.
        channel = torch.arange(node.shape[0], device=neurons.device)[:, None]
        place = torch.arange(node.shape[1] * node.shape[2], device=neurons.device)
    rows = 1 if channel is None else len(channel)
    bounds = []
    held = budget(state.box.lower.device)
    size = max(1, held // (2 * n * rows * _row_size(state.network, index)))
    for piece in place.split(size, -1):
        start, unit, add = unit_rows(state.network, index, channel, piece, state.box.lower)
        bounds.append(_lower(state, start, unit, add).view(n, 2, rows, piece.shape[-1]))
    both = torch.cat(bounds, 3).flatten(2)
    both = both if channel is None else both[:, :, neurons]
    return both[:, 0], -both[:, 1]


def _lower(state: State, start: int, rows: Rows, add: Tensor | float) -> Tensor:
    entry, box = state.entry, state.entry_box
    if start < entry:
        entry, box = 0, (state.box.lower, state.box.upper)
    rows, total = back_substitute(
        state.network, start, rows, state.known, state.relaxations, add, stop=entry
    )
    return concretise(rows, total, *box)


def _row_size(network: Network, index: int) -> int:
    """Numbers that one row holds at its widest on the way from a node to the input."""
    if not isinstance(network.nodes[index].op, Conv):
        return max(size_of(node) for node in network.nodes[: index + 1])
    side, widest = 1, 1
    for node in reversed(network.nodes[: index + 1]):
        if isinstance(node.op, Conv):
            side = (side - 1) * max(node.op.stride) + max(node.op.weight.shape[2:])
        elif isinstance(node.op, MaxPool):
            side *= max(node.op.kernel)
        if isinstance(node.op, Conv | MaxPool):
            window = node.op.in_shape[0] * side * side
            widest = max(widest, min(window, math.prod(node.op.in_shape)))
    return widest


def lower_bounds(state: State, rows: Tensor, add: Tensor | float = 0.0) -> Tensor:
    """Lower bounds of linear forms of the output, ``(n, rows)``; what is unknown is -inf.

    Args:
        rows: ``(n or 1, rows, *out_shape)``.
        add: constants ``(n or 1, rows)``.
    """
    network = state.network
    last = len(network.nodes) - 1
    held = budget(state.box.lower.device)
    size = max(1, held // (len(state.box.lower) * _row_size(network, last)))
    parts = [_lower(state, last, piece, 0.0) for piece in rows.split(size, 1)]
    return known_only(torch.cat(parts, 1) + add)


def interval_lower_bounds(state: State, rows: Tensor) -> Tensor:
    """The same from intervals: rows are substituted through the last affine operations only."""
    index, total = len(state.network.nodes) - 1, torch.zeros((), dtype=rows.dtype)
    while len(state.network.nodes[index].inputs) == 1 and state.network.nodes[index].op.affine:
        node = state.network.nodes[index]
        (rows,), add = node.op.bound_backward(rows)  # type: ignore[attr-defined]
        index, total = node.inputs[0], total.to(rows.device) + add
    return known_only(concretise(rows, total, *state.known[index]))


def known_only(bounds: Tensor) -> Tensor:
    """NaN and +inf are no lower bounds that anything has proved."""
    return torch.where(torch.isnan(bounds) | (bounds == float("inf")), float("-inf"), bounds)
