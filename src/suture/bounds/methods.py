"""Every way to bound by its name: one table, from the cheapest to the tightest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from suture.bounds.alpha_crown import optimised
from suture.bounds.backward import size_of
from suture.bounds.crown import (
    OWN,
    Method,
    budget,
    interval_lower_bounds,
    lower_bounds,
    prepare,
)
from suture.bounds.ibp import Interval
from suture.bounds.network import Network
from suture.types import Box

Bounding = Callable[[Network, Box, Tensor], Tensor]


def _intervals(network: Network, box: Box, rows: Tensor) -> Tensor:
    return interval_lower_bounds(prepare(network, box, "ibp"), rows)


def _substituted(method: Method, network: Network, box: Box, rows: Tensor) -> Tensor:
    return lower_bounds(prepare(network, box, method), rows)


METHODS: Mapping[str, Bounding] = {
    "ibp": _intervals,
    "crown-ibp": partial(_substituted, "crown-ibp"),
    "crown": partial(_substituted, "crown"),
    "alpha-crown": optimised,
}
"""Name → lower bounds of linear forms on boxes."""


def bounds_of(network: Network, box: Box, rows: Tensor, method: Method = "crown") -> Tensor:
    """Lower bounds ``(n, rows)`` of linear forms of the output by any method.

    Args:
        rows: ``(n or 1, rows, *out_shape)``.
        method: "ibp" < "crown-ibp" < "crown" < "alpha-crown" in time, and mostly in tightness.
    """
    own, count = network.own_numbers, len(box.lower)
    if not count:
        return rows.new_zeros(0, rows.shape[1])
    size = max(1, OWN * budget(box.lower.device) // max(1, own))
    if own and size < count:
        # Weights are read several times: not all of them from far away each time.
        cuts = [slice(first, first + size) for first in range(0, count, size)]
        parts = [
            bounds_of(
                network.part(cut),
                Box(box.lower[cut], box.upper[cut]),
                rows if len(rows) == 1 else rows[cut],
                method,
            )
            for cut in cuts
        ]
        return torch.cat(parts)
    return METHODS[method](network, box, rows)


def output_bounds(network: Network, box: Box, method: Method = "crown") -> Interval:
    """Bounds of the outputs ``(n, *out_shape)``; what is unknown is infinite."""
    count = size_of(network.nodes[-1])
    unit = torch.eye(count, dtype=box.lower.dtype, device=box.lower.device)
    rows = torch.cat([unit, -unit]).view(1, 2 * count, *network.out_shape)
    found = bounds_of(network, box, rows, method)
    shape = (len(found), *network.out_shape)
    return found[:, :count].reshape(shape), -found[:, count:].reshape(shape)
