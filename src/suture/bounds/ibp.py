"""Interval bound propagation: one box after another (Gowal et al. 2018)."""

from __future__ import annotations

from torch import Tensor

from suture.bounds.network import Network
from suture.types import Box

Interval = tuple[Tensor, Tensor]


def intervals(network: Network, box: Box) -> list[Interval]:
    """The box of every node's value, in order.

    Args:
        network: the network.
        box: of inputs, ``(n, *in_shape)``; need not be symmetric.
    """
    found: list[Interval] = [(box.lower, box.upper)]
    for node in network.nodes[1:]:
        parts = [found[i] for i in node.inputs]
        found.append(node.op.interval([p[0] for p in parts], [p[1] for p in parts]))
    return found


def ibp(network: Network, box: Box) -> Interval:
    """Lower and upper bounds of the outputs ``(n, *out_shape)``; NaN means unknown."""
    return intervals(network, box)[-1]
