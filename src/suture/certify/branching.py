"""Proofs by cases: unstable ReLUs are split into active and inactive (β-CROWN, Wang et al. 2021).

In a case, a split neuron is linear, and that its input has the case's sign is a constraint; with a
multiplier ``β >= 0`` for each, ``f - Σ β·sign·z`` is a lower bound of f wherever the constraints
hold. Any β and any slopes of the other ReLUs are sound; both are optimised, many cases at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from suture.bounds import Network
from suture.bounds.activations import Relaxation, Relu
from suture.bounds.alpha_crown import Optimiser, optimised_inside
from suture.bounds.backward import Known, back_substitute, concretise
from suture.bounds.ibp import Interval
from suture.types import Box

ABOVE = 1e-6
"""A bound must exceed this before it counts as proved: room for the rounding of float64."""
_CANDIDATES = 4


@dataclass(frozen=True, kw_only=True)
class Branching:
    """How cases are bounded and split.

    Attributes:
        seconds: time limit for all rows together.
        at_once: cases bounded together.
        steps: of Adam for each case.
        slope_rate, multiplier_rate: step sizes.
        first: settings of α-CROWN, which has the first word.
    """

    seconds: float = 60.0
    at_once: int = 32
    steps: int = 20
    slope_rate: float = 0.1
    multiplier_rate: float = 0.1
    first: Optimiser = field(default_factory=lambda: Optimiser(steps=30, enough=ABOVE))


@dataclass(frozen=True)
class Cases:
    """What became of a claim.

    Attributes:
        proved: every row is positive on the whole box.
        count: cases that were bounded, the first one included.
        seconds: wall clock.
    """

    proved: bool
    count: int
    seconds: float


def prove_by_cases(network: Network, box: Box, rows: Tensor, how: Branching | None = None) -> Cases:
    """Whether ``rows · F(x) > 0`` for every row and every x of one box.

    "Not proved" is not "false". Without ReLUs there is one case.

    Args:
        network: float64.
        box: one, ``(1, *in_shape)``, float64.
        rows: ``(1, rows, *out_shape)``.
        how: settings.
    """
    how, started, count = how or Branching(), time.monotonic(), 1
    best, known = optimised_inside(network, box, rows, how.first)
    if not any(isinstance(node.op, Relu) for node in network.nodes):
        return Cases(bool((best > ABOVE).all()), count, time.monotonic() - started)
    for row in (~(best[0] > ABOVE)).nonzero()[:, 0].tolist():
        tree = _Tree(network, box, rows[:, row : row + 1], known, how)
        proved = tree.closed(started + how.seconds)
        count += tree.count
        if not proved:
            return Cases(False, count, time.monotonic() - started)
    return Cases(True, count, time.monotonic() - started)


@dataclass(frozen=True, eq=False)
class _Case:
    """Some cases, stacked: by node that a ReLU reads, ``(b, *shape)`` each.

    Attributes:
        lower, upper: of the node's value.
        sign: 1 where a neuron is split active, -1 inactive, else 0.
        slope: of the lower linear bound, where the neuron is unstable.
        multiplier: β.
    """

    lower: dict[int, Tensor]
    upper: dict[int, Tensor]
    sign: dict[int, Tensor]
    slope: dict[int, Tensor]
    multiplier: dict[int, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.lower.values())))

    def __getitem__(self, index: Tensor | slice) -> _Case:
        return _Case(*({k: v[index] for k, v in part.items()} for part in self._parts()))

    def _parts(self) -> Iterable[dict[int, Tensor]]:
        return (self.lower, self.upper, self.sign, self.slope, self.multiplier)

    @staticmethod
    def concat(cases: list[_Case]) -> _Case:
        """All of them."""
        columns = zip(*(case._parts() for case in cases), strict=True)
        return _Case(
            *({k: torch.cat([part[k] for part in parts]) for k in parts[0]} for parts in columns)
        )

    def split(self, source: Tensor, neuron: Tensor, sign: int) -> _Case:
        """Each case with one more neuron decided.

        Args:
            source: int64 ``(b,)``, the node; ``neuron``: the position in its value, flat.
            sign: 1 or -1.
        """
        made = [{k: v.clone() for k, v in part.items()} for part in self._parts()]
        for node in self.lower:
            mine = (source == node).nonzero()[:, 0]
            flat = [part[node].view(len(self), -1) for part in made]
            place = (mine, neuron[mine])
            bound = flat[0] if sign > 0 else flat[1]
            bound[place] = bound[place].clamp(min=0) if sign > 0 else bound[place].clamp(max=0)
            flat[2][place] = float(sign)
            flat[4][place] = 0.0
        return _Case(*made)


class _Tree:
    """The cases of one row that are still to be proved."""

    def __init__(
        self, network: Network, box: Box, row: Tensor, known: Known, how: Branching
    ) -> None:
        self.network, self.box, self.row, self.known, self.how = network, box, row, known, how
        self.last, self.count = len(network.nodes) - 1, 0
        self.relus = {
            index: node.inputs[0]
            for index, node in enumerate(network.nodes)
            if isinstance(node.op, Relu)
        }
        self.sources = sorted(set(self.relus.values()))

    def closed(self, deadline: float) -> bool:
        """Whether all cases are proved before the deadline."""
        stack = [self._first()]
        while stack:
            if time.monotonic() > deadline:
                return False
            case = self._taken(stack)
            self.count += len(case)
            bound, case = self._optimised(case)
            case = case[~(bound > ABOVE)]
            if not len(case):
                continue
            halves = self._halves(case)
            if halves is None:
                return False
            stack.append(halves)
        return True

    def _first(self) -> _Case:
        lower = {s: self.known[s][0].detach() for s in self.sources}
        upper = {s: self.known[s][1].detach() for s in self.sources}
        slope = {s: (upper[s] > -lower[s]).to(lower[s].dtype) for s in self.sources}
        zeros = {s: torch.zeros_like(lower[s]) for s in self.sources}
        return _Case(lower, upper, dict(zeros), slope, dict(zeros))

    def _taken(self, stack: list[_Case]) -> _Case:
        """The newest cases, at most ``at_once``."""
        case, most = stack.pop(), self.how.at_once
        while stack and len(case) < most:
            case = _Case.concat([stack.pop(), case])
        if len(case) > most:
            stack.append(case[: len(case) - most])
            case = case[len(case) - most :]
        return case

    def _relaxations(self, case: _Case, slope: dict[int, Tensor]) -> dict[int, Relaxation]:
        """Relaxations in each case; activations that cannot be split keep their own."""
        relaxations = {}
        for index, node in enumerate(self.network.nodes):
            if index in self.relus:
                source = self.relus[index]
                relaxations[index] = node.op.relaxation(  # type: ignore[attr-defined]
                    case.lower[source], case.upper[source], slope[source]
                )
            elif node.op.relaxed:
                lower, upper = _wide(self.known[node.inputs[0]], len(case))
                relaxations[index] = node.op.relaxation(lower, upper)
        return relaxations

    def _bound(
        self, case: _Case, relaxations: dict[int, Relaxation], multiplier: dict[int, Tensor]
    ) -> Tensor:
        """A lower bound of the row in each case, ``(b,)``."""
        extra = {s: -(case.sign[s] * multiplier[s])[:, None] for s in self.sources}
        known = {node: _wide(pair, len(case)) for node, pair in self.known.items()}
        known |= {s: (case.lower[s], case.upper[s]) for s in self.sources}
        rows, total = back_substitute(
            self.network, self.last, self.row, known, relaxations, extra=extra
        )
        lower, upper = _wide((self.box.lower, self.box.upper), len(case))
        found = concretise(rows, total, lower, upper)[:, 0]
        return torch.where(torch.isnan(found), float("-inf"), found)

    def _optimised(self, case: _Case) -> tuple[Tensor, _Case]:
        """The best bound of each case, and the case with the slopes and multipliers that gave the
        last one."""
        slope = {s: v.clone().requires_grad_() for s, v in case.slope.items()}
        multiplier = {s: v.clone().requires_grad_() for s, v in case.multiplier.items()}
        adam = torch.optim.Adam(
            [
                {"params": list(slope.values()), "lr": self.how.slope_rate},
                {"params": list(multiplier.values()), "lr": self.how.multiplier_rate},
            ]
        )
        schedule = torch.optim.lr_scheduler.ExponentialLR(adam, 0.98)
        best = torch.full((len(case),), float("-inf"), dtype=self.row.dtype)
        for _ in range(self.how.steps):
            adam.zero_grad()
            with torch.enable_grad():
                found = self._bound(case, self._relaxations(case, slope), multiplier)
                best = torch.maximum(best, found.detach())
                push = torch.where((best <= ABOVE) & torch.isfinite(found), found, 0.0)
                if bool((best > ABOVE).all()) or not push.requires_grad:
                    break
                (-push.sum()).backward()
            adam.step()
            schedule.step()
            with torch.no_grad():
                for value in slope.values():
                    value.clamp_(0, 1)
                for value in multiplier.values():
                    value.clamp_(min=0)
        ended = [{s: v.detach() for s, v in part.items()} for part in (slope, multiplier)]
        return best, _Case(case.lower, case.upper, case.sign, *ended)

    def _halves(self, case: _Case) -> _Case | None:
        """Every case split at the neuron whose two halves promise most; ``None`` if a case has
        nothing left to split."""
        worth = self._worth(case)
        score, place = worth.topk(min(_CANDIDATES, worth.shape[1]), dim=1)
        if bool((score[:, 0] <= 0).any()):
            return None
        source, neuron = self._named(place)
        gains, halves = [], []
        for choice in range(place.shape[1]):
            both = _Case.concat(
                [case.split(source[:, choice], neuron[:, choice], sign) for sign in (1, -1)]
            )
            with torch.no_grad():
                found = self._bound(both, self._relaxations(both, both.slope), both.multiplier)
            gain = found.clamp(max=0).view(2, -1).sum(0)
            gains.append(torch.where(score[:, choice] > 0, gain, float("-inf")))
            halves.append(both)
        pick = torch.stack(gains).argmax(0)
        position, size = torch.arange(len(case)), len(case)
        chosen = [
            halves[p][torch.tensor([i, i + size])] for i, p in zip(position, pick, strict=True)
        ]
        return _Case.concat(chosen)

    def _worth(self, case: _Case) -> Tensor:
        """``(b, neurons)``: what each unstable neuron's upper relaxation takes from the bound."""
        relaxations = self._relaxations(case, case.slope)
        shifts = {}
        for index in self.relus:
            given = relaxations[index]
            assert given.up_shift is not None
            shifts[index] = given.up_shift.detach().requires_grad_()
            relaxations[index] = Relaxation(given.low, given.up, given.low_shift, shifts[index])
        with torch.enable_grad():
            found = self._bound(case, relaxations, case.multiplier)
            grads = torch.autograd.grad(found.sum(), list(shifts.values()))
        worth = {s: torch.zeros_like(v) for s, v in case.lower.items()}
        for (index, shift), grad in zip(shifts.items(), grads, strict=True):
            source = self.relus[index]
            unstable = (case.lower[source] < 0) & (case.upper[source] > 0)
            lost = (grad * shift.detach()).abs() + 1e-12 * case.upper[source].clamp(min=0)
            worth[source] = worth[source] + torch.where(unstable, lost, torch.zeros_like(lost))
        return torch.cat([worth[s].flatten(1) for s in self.sources], 1)

    def _named(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Node and position of neurons counted through all nodes."""
        sizes = torch.tensor([self.known[s][0][0].numel() for s in self.sources])
        ends = sizes.cumsum(0)
        which = torch.searchsorted(ends, place, right=True)
        return torch.tensor(self.sources)[which], place - (ends - sizes)[which]


def _wide(interval: Interval, count: int) -> Interval:
    """The same interval for every case."""
    lower, upper = interval
    return lower.expand(count, *lower.shape[1:]), upper.expand(count, *upper.shape[1:])
