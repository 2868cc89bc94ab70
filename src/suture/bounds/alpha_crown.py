"""α-CROWN: the lower slopes of unstable ReLUs are optimised (Xu et al. 2021, "Fast and Complete"),
and where the linear bounds of sigmoid and tanh touch (Shi et al. 2025, GenBaB).

Any slope between 0 and 1 gives a valid lower bound, so every iterate is sound and the best
one is kept. Every row has slopes of its own; with ``inner`` so have the bounds of inner neurons.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from suture.bounds.activations import Relu, SShaped
from suture.bounds.backward import Known, Rows, back_substitute, concretise, size_of, unit_rows
from suture.bounds.crown import State, known_only, lower_bounds, prepare
from suture.bounds.ibp import Interval
from suture.bounds.network import Network
from suture.types import Box

_LARGEST = 20_000_000
"""Slopes that one target may have; larger ones keep their CROWN bounds."""


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """How slopes are optimised.

    Attributes:
        steps: of Adam.
        learning_rate: first step size, in shares of the way from 0 to 1.
        decay: factor per step.
        inner: optimise the bounds of inner neurons too; slower, and much tighter on deep networks.
        enough: rows above this are finished; when all are, the work ends.
    """

    steps: int = 20
    learning_rate: float = 0.25
    decay: float = 0.97
    inner: bool = True
    enough: float = float("inf")


def optimised(network: Network, box: Box, rows: Tensor, how: Optimiser | None = None) -> Tensor:
    """Lower bounds ``(n, rows)`` of linear forms of the output, never below CROWN's.

    Args:
        rows: ``(n or 1, rows, *out_shape)``.
        how: settings.
    """
    return optimised_inside(network, box, rows, how)[0]


def optimised_inside(
    network: Network, box: Box, rows: Tensor, how: Optimiser | None = None
) -> tuple[Tensor, dict[int, Interval]]:
    """The same, and the best bounds met on the way of every value that an activation reads."""
    how = how or Optimiser()
    with torch.no_grad():
        state = prepare(network, box, "crown")
        best = lower_bounds(state, rows)
    if not any(isinstance(node.op, Relu | SShaped) for node in network.nodes):
        return best, state.known
    search = _SlopeSearch(network, box, rows, state, how)
    optimiser = torch.optim.Adam(search.parameters, lr=how.learning_rate)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, how.decay)
    for _ in range(how.steps):
        if bool((best > how.enough).all()) or not search.parameters:
            break
        with torch.enable_grad():
            optimiser.zero_grad()
            found = search.bounds()
            best = torch.maximum(best, known_only(found.detach()))
            # Finished rows and rows without bounds need no further push.
            push = torch.where((best <= how.enough) & torch.isfinite(found), found, 0.0)
            if not push.requires_grad:
                break
            (-push.sum()).backward()
        optimiser.step()
        schedule.step()
        search.clip()
    return best, search.tightest


@dataclass
class _SlopeSearch:
    """Slopes, and the best inner bounds so far."""

    network: Network
    box: Box
    rows: Tensor
    state: State
    how: Optimiser
    slopes: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    targets: dict[int, Tensor] = field(default_factory=dict)
    tightest: dict[int, Interval] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tightest = dict(self.state.known)
        last = len(self.network.nodes) - 1
        if self.how.inner:
            for source in self._sources():
                neurons = self._unstable(source)
                if len(neurons) and self._small(source, 2 * len(neurons)):
                    self.targets[source] = neurons
                    self._new(source, 2 * len(neurons))
        self._new(last + 1, self.rows.shape[1])

    @property
    def parameters(self) -> list[Tensor]:
        """All slopes."""
        return list(self.slopes.values())

    def clip(self) -> None:
        """Back to where slopes are sound."""
        with torch.no_grad():
            for slope in self.slopes.values():
                slope.clamp_(0, 1)

    def bounds(self) -> Tensor:
        """Bounds with the slopes as they are; inner bounds first."""
        known = dict(self.state.known)
        for target, neurons in self.targets.items():
            start, unit, add = unit_rows(self.network, target, None, neurons, self.box.lower)
            found = self._lower(target, start, unit, add, known)
            known[target] = self._cut(known[target], neurons, found)
            self._keep(target, known[target])
        last = len(self.network.nodes) - 1
        return self._lower(last + 1, last, self.rows, 0.0, known)

    def _keep(self, target: int, interval: Interval) -> None:
        lower, upper = self.tightest[target]
        self.tightest[target] = (
            torch.fmax(lower, interval[0].detach()),
            torch.fmin(upper, interval[1].detach()),
        )

    def _lower(
        self, target: int, start: int, rows: Rows, add: Tensor | float, known: Known
    ) -> Tensor:
        # Slopes differ from row to row, so windows cannot share them.
        rows = rows if isinstance(rows, Tensor) else rows.dense()
        relaxations = {
            index: node.op.relaxation(*known[node.inputs[0]], self.slopes.get((target, index)))
            for index, node in enumerate(self.network.nodes[: start + 1])
            if node.op.relaxed
        }
        coefficients, total = back_substitute(self.network, start, rows, known, relaxations, add)
        return concretise(coefficients, torch.as_tensor(total), self.box.lower, self.box.upper)

    def _cut(
        self, interval: tuple[Tensor, Tensor], neurons: Tensor, found: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The interval cut with new bounds, gradients included."""
        lower, upper = (bound.flatten(1) for bound in interval)
        below, above = found[:, : len(neurons)], -found[:, len(neurons) :]
        lower = lower.index_copy(1, neurons, torch.fmax(lower[:, neurons], below))
        upper = upper.index_copy(1, neurons, torch.fmin(upper[:, neurons], above))
        return lower.view_as(interval[0]), upper.view_as(interval[1])

    def _sources(self) -> list[int]:
        """Nodes that activations read and that a backward pass can tighten, in order."""
        bent = [i for i, n in enumerate(self.network.nodes) if isinstance(n.op, Relu | SShaped)]
        reads = {self.network.nodes[i].inputs[0] for i in bent}
        return sorted(source for source in reads if source > bent[0])

    def _unstable(self, source: int) -> Tensor:
        lower, upper = (bound.flatten(1) for bound in self.state.known[source])
        unstable = torch.zeros(lower.shape[1], dtype=torch.bool, device=lower.device)
        for node in self.network.nodes:
            if isinstance(node.op, Relu | SShaped) and node.inputs[0] == source:
                unstable |= ~node.op.stable(lower, upper).all(0)
        return unstable.nonzero().flatten()

    def _small(self, target: int, rows: int) -> bool:
        sizes = [size_of(node) for node in self.network.nodes[: target + 1]]
        return rows * max(sizes) * len(self.box.lower) <= _LARGEST

    def _new(self, target: int, rows: int) -> None:
        """Slopes of a target, starting where DeepPoly's choice is."""
        for index, node in enumerate(self.network.nodes[:target]):
            if isinstance(node.op, Relu | SShaped):
                start = node.op.start(*self.state.known[node.inputs[0]])
                ahead = start.ndim - len(node.shape)
                shape = (*start.shape[:ahead], rows, *node.shape)
                wide = start.unsqueeze(ahead).expand(shape)
                self.slopes[target, index] = wide.clone().requires_grad_()
