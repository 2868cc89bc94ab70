"""Properties of networks with few inputs: proved, or refuted, by cutting the box into pieces.

Branch and bound over the input: CROWN in float64 with slack for a thousand boxes at once; a box
that is not proved is cut across the input where CROWN-IBP promises most of the halves. Every box
is also tried: its centre, and the corners that the bounds suspect.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from suture.bounds import Method, Network, prepare
from suture.bounds.backward import back_substitute, concretise
from suture.certify.proving import SLACK, network64
from suture.data.vnnlib import Property
from suture.types import Box

Answer = Literal["unsat", "sat", "unknown"]


@dataclass(frozen=True, eq=False)
class Verification:
    """What became of a property.

    Attributes:
        answer: "unsat": it holds, proved; "sat": a counterexample was found and tried on the real
            network; "unknown": time ran out.
        counterexample: a float32 input, or ``None``.
        pieces: boxes that were bounded.
        seconds: wall clock.
    """

    answer: Answer
    counterexample: Tensor | None
    pieces: int
    seconds: float


def verify(
    model: nn.Module,
    in_shape: tuple[int, ...],
    claim: Property,
    *,
    seconds: float = 116.0,
    at_once: int = 1024,
) -> Verification:
    """Whether any input of the property's boxes has an unsafe output.

    Args:
        in_shape: of one input; the property's inputs are flat.
        seconds: time limit.
        at_once: boxes bounded together.
    """
    started, pieces = time.monotonic(), 0
    search = _BoxSearch(model, network64(model, in_shape), claim)
    low, high = (np.stack([box[i] for box in claim.boxes]) for i in (0, 1))
    shape = (len(low), *in_shape)
    stack = [Box(torch.from_numpy(low).view(shape), torch.from_numpy(high).view(shape))]
    while stack:
        if time.monotonic() - started > seconds:
            return Verification("unknown", None, pieces, time.monotonic() - started)
        box = _taken(stack, at_once)
        pieces += len(box.lower)
        with torch.no_grad():
            found, rest = search.step(box)
        if found is not None:
            return Verification("sat", found, pieces, time.monotonic() - started)
        if rest is not None:
            stack.append(rest)
    return Verification("unsat", None, pieces, time.monotonic() - started)


def _taken(stack: list[Box], count: int) -> Box:
    """The newest boxes, at most ``count``: the stack stays short."""
    box = stack.pop()
    while stack and len(box.lower) < count:
        more = stack.pop()
        box = Box(torch.cat([more.lower, box.lower]), torch.cat([more.upper, box.upper]))
    if len(box.lower) > count:
        stack.append(Box(box.lower[:-count], box.upper[:-count]))
        box = Box(box.lower[-count:], box.upper[-count:])
    return box


class _BoxSearch:
    """One round of bounding, trying and cutting."""

    def __init__(self, model: nn.Module, network: Network, claim: Property) -> None:
        self.model, self.network, self.claim = model, network, claim
        self.rows = torch.from_numpy(np.concatenate([a for a, _ in claim.unsafe]))
        self.add = -torch.from_numpy(np.concatenate([b for _, b in claim.unsafe]))
        sizes = [len(a) for a, _ in claim.unsafe]
        self.groups = torch.arange(len(self.rows)).split(sizes)

    def step(self, box: Box) -> tuple[Tensor | None, Box | None]:
        """A counterexample if one was met, else the halves of what is not proved."""
        best, coefficients = self._bound(box, "crown")
        unproved = best <= 0
        if not bool(unproved.any()):
            return None, None
        left = Box(box.lower[unproved], box.upper[unproved])
        found = self._tried(left, coefficients[unproved])
        return found, None if found is not None else self._cut(left)

    def _bound(self, box: Box, method: Method) -> tuple[Tensor, Tensor]:
        """What is proved of each box ``(n,)``, above 0 if it holds no counterexample; and the
        coefficients of each row's linear bound ``(n, rows, inputs)``."""
        state = prepare(self.network, box, method)
        rows = self.rows.view(1, len(self.rows), *self.network.out_shape)
        last = len(self.network.nodes) - 1
        coefficients, total = back_substitute(
            self.network, last, rows, state.known, state.relaxations, self.add[None]
        )
        assert isinstance(coefficients, Tensor)
        bound = concretise(coefficients, total, box.lower, box.upper)
        bound = bound - SLACK * (1 + bound.abs() + self.add.abs())
        bound = torch.where(torch.isnan(bound), float("-inf"), bound)
        # A case of the property is impossible where one of its rows is; all cases must be.
        cases = [bound[:, group].amax(1) for group in self.groups]
        coefficients = coefficients.expand(len(bound), *coefficients.shape[1:])
        return torch.stack(cases, 1).amin(1), coefficients.flatten(2)

    def _tried(self, box: Box, coefficients: Tensor) -> Tensor | None:
        """Centres, and for each row the corner where its linear bound is least."""
        centre = ((box.lower + box.upper) / 2)[:, None].flatten(2)
        low, high = box.lower.flatten(1)[:, None], box.upper.flatten(1)[:, None]
        corners = torch.where(coefficients > 0, low, high)
        points = torch.cat([centre, corners], 1).flatten(0, 1).to(torch.float32)
        inside = torch.from_numpy(self.claim.admits(points.double().numpy()))
        points = points[inside].view(-1, *self.network.in_shape)
        if not len(points):
            return None
        values = self.model(points).flatten(1).double().numpy()
        hits = torch.from_numpy(self.claim.violated_by(values)).nonzero()
        return points[hits[0, 0]] if len(hits) else None

    def _cut(self, box: Box) -> Box:
        """Each box in two halves, across the input where CROWN-IBP proves most of both halves."""
        size = box.lower[0].numel()
        gains = []
        for axis in range(size):
            both = _halves(box, torch.full((len(box.lower),), axis))
            proved = self._bound(both, "crown-ibp")[0].clamp(max=0)
            gains.append(proved.view(2, -1).sum(0))
        gain = torch.stack(gains, 1)
        # Where nothing is known of any half, the widest side is cut.
        width = (box.upper - box.lower).flatten(1)
        blind = torch.isinf(gain).all(1, keepdim=True)
        return _halves(box, torch.where(blind, width, gain).argmax(1))


def _halves(box: Box, axis: Tensor) -> Box:
    """All lower halves, then all upper halves; ``axis`` ``(n,)`` says where each box is cut."""
    across = F.one_hot(axis, box.lower[0].numel()).bool().view_as(box.lower)
    middle = (box.lower + box.upper) / 2
    low = torch.cat([box.lower, torch.where(across, middle, box.lower)])
    return Box(low, torch.cat([torch.where(across, middle, box.upper), box.upper]))
