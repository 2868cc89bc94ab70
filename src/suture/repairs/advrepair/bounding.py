"""Lower bounds of ``rows · (N + P)(x) + add`` on boxes: N's part once, the patch's part each time.

``N`` and ``P`` read the same input, so their linear lower bounds (DeepPoly, paper Eq. 1) add up,
and only the sum is made as small as the box allows (Theorem 3.4).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from suture.bounds import Method, Network, prepare
from suture.bounds.backward import back_substitute, concretise
from suture.bounds.coefficients import Patches
from suture.repairs.advrepair.bank import Layers, network
from suture.types import Box

TOGETHER = 64
"""Boxes whose bounds are computed at once."""


@dataclass(frozen=True, eq=False)
class Relaxed:
    """``slope · x + shift <= rows · N(x) + add`` on each box.

    Attributes:
        lower, upper: boxes ``(n, d)``, flat.
        slope: ``(n, k, d)``.
        shift: ``(n, k)``.
        rows: ``(n, k, classes)``.
    """

    lower: Tensor
    upper: Tensor
    slope: Tensor
    shift: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.lower)

    def __getitem__(self, index: Tensor | slice) -> Relaxed:
        """Some of the boxes."""
        return Relaxed(*(getattr(self, name)[index] for name in _PARTS))

    @staticmethod
    def concat(parts: list[Relaxed]) -> Relaxed:
        """The parts one after another."""
        return Relaxed(*(torch.cat([getattr(p, name) for p in parts]) for name in _PARTS))

    def divided(self, unit: Tensor) -> Relaxed:
        """The bounds divided by a unit per box ``(n,)``."""
        slope, shift = self.slope / unit[:, None, None], self.shift / unit[:, None]
        return Relaxed(self.lower, self.upper, slope, shift, self.rows)

    def alone(self) -> Tensor:
        """Lower bounds ``(n, k)`` without a patch."""
        return concretise(self.slope, self.shift, self.lower, self.upper)


_PARTS = ("lower", "upper", "slope", "shift", "rows")


def bound_network(
    network: Network, box: Box, rows: Tensor, add: Tensor, method: Method = "crown"
) -> Relaxed:
    """N's linear lower bounds on boxes ``(n, *in_shape)``."""
    parts = (t.split(TOGETHER) for t in (box.lower, box.upper, rows, add))
    with torch.no_grad():
        return Relaxed.concat(
            [
                _piece(network, Box(low, high), some, more, method)
                for low, high, some, more in zip(*parts, strict=True)
            ]
        )


def _piece(network: Network, box: Box, rows: Tensor, add: Tensor, method: Method) -> Relaxed:
    slope, shift = _back_substituted(network, box, rows, method)
    shift = (shift + add).expand(len(rows), -1)
    return Relaxed(box.lower.flatten(1), box.upper.flatten(1), slope.flatten(2), shift, rows)


def _back_substituted(
    network: Network, box: Box, rows: Tensor, method: Method
) -> tuple[Tensor, Tensor]:
    state = prepare(network, box, method)
    last = len(network.nodes) - 1
    slope, shift = back_substitute(network, last, rows, state.known, state.relaxations)
    dense = slope.dense() if isinstance(slope, Patches) else slope
    return dense, torch.as_tensor(shift, dtype=rows.dtype)


@dataclass(frozen=True, eq=False)
class Relaxing:
    """Bounds N on boxes, when training asks: a function that can be sent to another process.

    Attributes:
        network: N.
        rows: ``(m, k, classes)``, each region's forms.
        add: ``(m, k)``.
        unit: ``(m,)``, by which each region's bounds are divided.
        method: how N is bounded.
    """

    network: Network
    rows: Tensor
    add: Tensor
    unit: Tensor
    method: Method

    def __call__(self, lower: Tensor, upper: Tensor, region: Tensor) -> Relaxed:
        """N's bounds on boxes ``(n, d)``, parts of the regions ``(n,)``."""
        shape = self.network.in_shape
        box = Box(lower.view(-1, *shape), upper.view(-1, *shape))
        found = bound_network(self.network, box, self.rows[region], self.add[region], self.method)
        return found.divided(self.unit[region])


def joint(given: Relaxed, layers: Layers, method: Method = "crown") -> tuple[Tensor, Tensor]:
    """Lower bounds ``(n, k)`` with patch i on box i, and their slopes ``(n, k, d)``.

    Args:
        given: N's bounds.
        layers: one patch per box, stacked.
    """
    if not layers[0][0].shape[-1]:  # constants, which read nothing
        shift = given.shift + torch.einsum("nkc,nc->nk", given.rows, layers[0][1])
        return concretise(given.slope, shift, given.lower, given.upper), given.slope
    box = Box(given.lower, given.upper)
    slope, shift = _back_substituted(network(layers), box, given.rows, method)
    slope = given.slope + slope
    return concretise(slope, given.shift + shift, given.lower, given.upper), slope
