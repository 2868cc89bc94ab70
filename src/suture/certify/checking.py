"""Re-proves certificates from the file and the network alone.

The bounds come from ``plain``: DeepPoly in float64 over matrices that ``matrices`` reads from the
deployed layers, with outward slack on every bound. Networks that this plain way cannot hold
(sigmoid, tanh, too many weights) are checked by ``suture.bounds`` in float64, and the verdict says
so. Whoever checks, what he has read must answer as the deployed model does, at points of the box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from suture.bounds import Method
from suture.certify.certificate import Certificate
from suture.certify.matrices import Array, Cache, Step, UnreadError, steps_of
from suture.certify.plain import lower_bounds, outputs
from suture.certify.proving import network64, parts_of, prove, subject_of
from suture.models import fingerprint, untouched
from suture.types import Box

PLAIN, OTHER = "plain matrices", "suture.bounds"
_OTHERS = ("alpha-crown", "crown-ibp", "ibp")
"""Methods whose margins plain DeepPoly may not reach."""
_POINTS = 4
_ALIKE = 1e-4
"""Difference granted between float64 and the deployed float32, relative to the largest number that
is met on the way."""


@dataclass(frozen=True)
class CheckResult:
    """What came out of checking one certificate.

    Attributes:
        holds: whether the claim was proved again.
        margin: the smallest lower bound found now, -inf if none.
        by: "plain matrices" or "suture.bounds"; "none" where nothing was bounded.
        reason: why it does not hold, else empty.
    """

    holds: bool
    margin: float
    by: str
    reason: str = ""


class Checker:
    """Checks certificates of one model; what they share is prepared once."""

    def __init__(self, model: nn.Module) -> None:
        self.model = subject_of(model)
        self.network = fingerprint(self.model)
        self._cache: Cache = {}

    def __call__(self, certificate: Certificate) -> CheckResult:
        """Whether the claim holds for this very model."""
        if certificate.network != self.network:
            return _failed("it speaks of a model with other weights")
        parts = parts_of(self.model, certificate.lower, certificate.upper)
        if not parts:
            return _failed("no network answers in its region")
        found = [self._read(part, certificate) for part in parts]
        points = _points(certificate)
        strayed = np.min([one.strayed(points, self._deployed(points)) for one in found], axis=0)
        if strayed.max() > _ALIKE:
            return _failed("what was read of the network does not answer as the deployed model")
        margin, by = min((self._bound(one, certificate), one.by) for one in found)
        if margin > 0:
            return CheckResult(True, margin, by)
        return CheckResult(False, margin, by, f"the bound is {margin:g}, not above 0")

    def _read(self, part: nn.Module, certificate: Certificate) -> _Read:
        shape = tuple(certificate.lower.shape)
        try:
            return _Read(part, shape, steps_of(part, shape, self._cache))
        except UnreadError:
            return _Read(part, shape, None)

    def _deployed(self, points: Tensor) -> Array:
        like = next(self.model.parameters(), torch.zeros(0))
        with torch.no_grad(), untouched(self.model):
            return self.model(points.to(like)).double().cpu().numpy()

    def _bound(self, read: _Read, certificate: Certificate) -> float:
        if read.steps is None:
            return _fallback(read.part, certificate)
        rows, add = certificate.rows.flatten(1).numpy(), certificate.add.numpy()
        box = certificate.lower.flatten().numpy(), certificate.upper.flatten().numpy()
        found = lower_bounds(read.steps, *box, rows, add)
        margin = float(found.min()) if np.isfinite(found).all() else float("-inf")
        if margin <= 0 and certificate.method in _OTHERS:
            # Optimised slopes prove more than DeepPoly's, and so do intervals of networks that
            # were trained on intervals; only ``suture.bounds`` has them.
            read.steps = None
            return _fallback(read.part, certificate)
        return margin


@dataclass(eq=False)
class _Read:
    """A network that may answer, and its steps, unless ``suture.bounds`` has to read it."""

    part: nn.Module
    shape: tuple[int, ...]
    steps: list[Step] | None

    @property
    def by(self) -> str:
        """Who bounds it."""
        return OTHER if self.steps is None else PLAIN

    def strayed(self, points: Tensor, deployed: Array) -> Array:
        """By how much its answers differ from the deployed model's, ``(n,)``, relative."""
        if self.steps is not None:
            found, largest = outputs(self.steps, points.flatten(1).numpy())
        else:
            values = [points]
            with torch.no_grad():
                for node in network64(self.part, self.shape).nodes[1:]:
                    values.append(node.op.forward(*(values[i] for i in node.inputs)))
            found = values[-1].cpu().numpy()
            largest = max(float(value.abs().max()) for value in values)
        apart = np.abs(found - deployed).max(1) / max(largest, 1.0)
        return np.nan_to_num(apart, nan=np.inf, posinf=np.inf)


def _fallback(part: nn.Module, certificate: Certificate) -> float:
    method = cast(Method, certificate.method if certificate.method in _OTHERS else "crown")
    box = Box(certificate.lower[None], certificate.upper[None])
    found = prove(part, box, certificate.rows[None], certificate.add[None], method)
    return float(found.min())


def _points(certificate: Certificate) -> Tensor:
    """Points of the box that float32 can hold, its corners too: float64 ``(2 · 4, *shape)``."""
    low, high = certificate.lower, certificate.upper
    share = torch.rand(_POINTS, *low.shape, generator=torch.Generator().manual_seed(_POINTS))
    inner = low + share.double() * (high - low)
    corners = torch.where(share > 0.5, high, low)
    return torch.cat([inner, corners]).float().double()


def _failed(reason: str) -> CheckResult:
    return CheckResult(False, float("-inf"), "none", reason)
