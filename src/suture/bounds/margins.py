"""Margins of the true class, and what training and certificates make of them."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from suture.bounds.crown import (
    Method,
    State,
    interval_lower_bounds,
    lower_bounds,
    prepare,
)
from suture.bounds.methods import bounds_of
from suture.bounds.network import Network
from suture.types import Box


def margin_rows(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """``e_label - e_j`` for every other class j in rising order: ``(n, classes - 1, classes)``."""
    unit = torch.eye(classes, dtype=dtype, device=labels.device)
    others = _others(labels, classes)
    return unit[labels][:, None] - unit[others]


def _others(labels: Tensor, classes: int) -> Tensor:
    order = torch.arange(classes - 1, device=labels.device).expand(len(labels), -1)
    return order + (order >= labels[:, None]).long()


def margins(network: Network, box: Box, labels: Tensor, method: Method = "crown") -> Tensor:
    """Lower bounds of ``logit_label - logit_j`` over the box, ``(n, classes)``; 0 at the label.

    Args:
        network: with outputs ``(n, classes)``.
        box: inputs ``(n, *in_shape)``.
        labels: int64 ``(n,)``.
        method: how to bound. -inf means "nothing is known".
    """
    classes = network.out_shape[-1]
    found = bounds_of(network, box, margin_rows(labels, classes, box.lower.dtype), method)
    return found.new_zeros(len(labels), classes).scatter(1, _others(labels, classes), found)


def mixed_margins(network: Network, box: Box, labels: Tensor, share: float) -> Tensor:
    """``share · CROWN-IBP + (1 - share) · IBP`` margins, from one pass of intervals.

    What CROWN-IBP training descends on while the radius grows (Zhang et al. 2020, section 3); a
    mean of two lower bounds is one itself. With a share of 0 no rows are substituted back.

    Args:
        network, box, labels: as for ``margins``.
        share: in [0, 1].

    Returns:
        ``(n, classes)``; 0 at the label.
    """
    if share <= 0:
        return margins(network, box, labels, "ibp")
    rows = margin_rows(labels, network.out_shape[-1], box.lower.dtype)
    state = prepare(network, box, "crown-ibp")
    found = lower_bounds(state, rows)
    if share < 1:
        found = share * found + (1 - share) * interval_lower_bounds(with_ends(state), rows)
    zeros = found.new_zeros(len(labels), network.out_shape[-1])
    return zeros.scatter(1, _others(labels, network.out_shape[-1]), found)


def with_ends(state: State) -> State:
    """With the interval behind every activation too, where the last affine layers begin."""
    nodes, known = state.network.nodes, {0: (state.box.lower, state.box.upper), **state.known}
    for index, node in enumerate(nodes):
        if len(node.inputs) == 1 and node.inputs[0] in state.known and index not in known:
            lower, upper = state.known[node.inputs[0]]
            known[index] = node.op.interval([lower], [upper])
    return replace(state, known=known)


def certified(
    network: Network, box: Box, labels: Tensor, method: Method = "crown", *, above: float = 0.0
) -> Tensor:
    """Which examples keep their class on the whole box: every margin larger than ``above``."""
    found = margins(network, box, labels, method)
    own = F.one_hot(labels, found.shape[1]).bool()
    return found.masked_fill(own, float("inf")).amin(1) > above


def worst_case_cross_entropy(found: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of the logits ``-margins`` (Wong & Kolter 2018, Theorem 2): an upper
    bound of the loss anywhere in the box."""
    return F.cross_entropy(-found, labels)
