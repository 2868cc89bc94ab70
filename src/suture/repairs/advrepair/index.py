"""Which of many cubes hold an input: few candidates from a small product, then the exact look.

``|x - c| <= r`` in every coordinate implies ``|Q (x - c)| <= s r sqrt(d)`` for a matrix Q with few
rows and spectral norm s. The product is in float32; the threshold is raised by all that rounding
can do, so that no cube that holds an input is ever missed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from suture.repairs.advrepair.finding import close_pairs, most_similar

_ROWS, _STEPS = 16, 4
_FEW = 16
"""Coordinates that are looked at first, where candidates are many."""
_PAIRS, _NUMBERS, _ROOM = 4096, 65_536, 4
_UNIT = 2.0**-23
"""Twice the unit roundoff of float32: room for sums of rounded products in any order."""

Pairs = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class CubeIndex:
    """Cubes of one size, and a projection of their centres.

    Attributes:
        centre: ``(m, d)``.
        reach: half width, with the tolerance.
        basis: ``(d, k)``.
        shadow: ``(k, m)``, the projected centres.
        square: ``(m,)``, their squared lengths.
        limit: what the squared distance of shadows may be.
        first: int64 ``(16,)``, coordinates in which centres differ most.
    """

    centre: Tensor
    reach: float
    basis: Tensor
    shadow: Tensor
    square: Tensor
    limit: float
    first: Tensor

    @staticmethod
    def of(centre: Tensor, reach: float) -> CubeIndex:
        """The index of cubes ``centre ± reach``, boundaries included."""
        basis = _basis(centre)
        shadow = centre @ basis
        spread = centre.var(0, correction=0).topk(min(_FEW, centre.shape[1])).indices
        return CubeIndex(
            centre,
            reach,
            basis,
            shadow.T.contiguous(),
            (shadow * shadow).sum(1),
            _limit(centre, shadow, basis, reach),
            spread,
        )

    def pairs(self, inputs: Tensor) -> Pairs:
        """Rows of ``inputs`` ``(n, d)``, the cubes that hold them, and their L∞ distance from the
        centre: ``(q,)`` each."""
        row, cube = self._candidates(inputs)
        if len(row) > len(inputs):
            row, cube = self._first(inputs, row, cube)
        if not len(row):
            return row, cube, inputs.new_zeros(0)
        away = torch.cat(
            [
                (inputs[i] - self.centre[j]).abs().amax(1)
                for i, j in zip(row.split(_PAIRS), cube.split(_PAIRS), strict=True)
            ]
        )
        held = away <= self.reach
        return row[held], cube[held], away[held]

    def _candidates(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs that the shadows do not rule out."""
        shadow = inputs @ self.basis
        if shadow.device.type == "cpu" and shadow.dtype == torch.float32:
            room = _ROOM * len(shadow) + _PAIRS
            row, cube = torch.empty(2, room, dtype=torch.int64)
            tensors = (shadow, self.shadow, self.square, row, cube)
            own, other, square, *out = (tensor.numpy() for tensor in tensors)
            count = close_pairs(own, other, square, self.limit, *out)
            if count >= 0:
                return row[:count], cube[:count]
        return self._plainly(shadow)

    def _plainly(self, shadow: Tensor) -> tuple[Tensor, Tensor]:
        """The same as tensor operations, a few rows at a time."""
        found, room = [], self.limit - (shadow * shadow).sum(1)
        size = max(1, _NUMBERS // len(self.centre))
        kept = shadow.new_empty(min(size, len(shadow)), len(self.centre))
        for begin in range(0, len(shadow), size):
            some = slice(begin, begin + size)
            short = kept[: len(room[some])]
            torch.addmm(self.square, shadow[some], self.shadow, alpha=-2, out=short)
            close = (short.amin(1) <= room[some]).nonzero()[:, 0]
            if len(close):
                row, cube = (short[close] <= room[some][close, None]).nonzero(as_tuple=True)
                found.append((close[row] + begin, cube))
        if not found:
            none = torch.zeros(0, dtype=torch.int64, device=shadow.device)
            return none, none
        return torch.cat([row for row, _ in found]), torch.cat([cube for _, cube in found])

    def _first(self, inputs: Tensor, row: Tensor, cube: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs that a few coordinates do not rule out."""
        some, centre = inputs[:, self.first], self.centre[:, self.first]
        held = (some[row] - centre[cube]).abs().amax(1) <= self.reach
        return row[held], cube[held]


def _basis(centre: Tensor) -> Tensor:
    """Directions in which centres differ most, nearly orthonormal ``(d, k)``: some steps of
    subspace iteration. Any basis is sound; this one lets few candidates through."""
    size = centre.shape[1]
    if size <= 4 * _ROWS:
        return torch.eye(size).to(centre)
    moved = centre - centre.mean(0)
    draws = torch.randn(size, _ROWS, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(draws.to(centre))[0]
    for _ in range(_STEPS):
        basis = torch.linalg.qr(moved.T @ (moved @ basis))[0]
    return basis


def _limit(centre: Tensor, shadow: Tensor, basis: Tensor, reach: float) -> float:
    """The largest squared distance that the product can give for an input in a cube.

    With R = reach·sqrt(d), C the longest centre, B the longest shadow, s the spectral and ρ the
    largest column norm of the basis: an input x in a cube has ``|x| <= C + R``; each of the k
    projected numbers is off by ``γ_d ρ |x|`` at most, so shadows lie within
    ``D = s R + γ_d ρ sqrt(k) (2 C + R)``; and the expanded square is off by ``γ_{k+4} (2 B + D)²``.
    """
    size, rows = basis.shape
    wide = basis.double()
    norm = float(torch.linalg.matrix_norm(wide, 2))
    column = float(wide.norm(dim=0).max())
    radius = reach * math.sqrt(size)
    longest, cast = (
        float(centre.double().norm(dim=1).max()),
        float(shadow.double().norm(dim=1).max()),
    )
    rounding = size * _UNIT * column * math.sqrt(rows) * (2 * longest + radius)
    apart = norm * radius + rounding
    return apart**2 + (rows + 4) * _UNIT * (2 * cast + apart) ** 2


@dataclass(frozen=True, eq=False)
class ClassGroups:
    """Regions in order of the class that N sees at their centre.

    Attributes:
        start: int64 ``(classes + 1,)``, where each class begins.
        key: ``(f, m)``: what similarity is measured by, of length 1.
        patch: int64 ``(m,)``.
        twice: whether regions share patches.
    """

    start: Tensor
    key: Tensor
    patch: Tensor
    twice: bool

    @staticmethod
    def of(label: Tensor, key: Tensor, patch: Tensor, classes: int) -> ClassGroups:
        """Those of regions with labels ``(m,)``, keys ``(m, f)`` and patches ``(m,)``."""
        order = label.argsort(stable=True)
        start = torch.searchsorted(label[order], torch.arange(classes + 1).to(label))
        unit = F.normalize(key, dim=1)[order]
        twice = len(patch.unique()) < len(patch)
        return ClassGroups(start, unit.T.contiguous(), patch[order], twice)

    def similar(self, logits: Tensor, keys: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """The patches of the ``most`` regions of the predicted class with the largest cosine
        similarity: int64 ``(n, k)``, and 1, or 0 where there are fewer: ``(n, k)``."""
        first = logits.argmax(1)  # (The length of an input's own key changes no order.)
        size = max(1, min(most, len(self.patch)))
        if keys.device.type != "cpu" or keys.dtype != self.key.dtype:
            return self._plainly(first, keys, size)
        patch = first.new_empty(len(first), size)
        share = keys.new_empty(len(first), size)
        tensors = (first, keys.contiguous(), self.start, self.key, self.patch, patch, share)
        most_similar(*(tensor.numpy() for tensor in tensors), self.twice)
        return patch, share

    def _plainly(self, first: Tensor, keys: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """The same as tensor operations."""
        group = torch.arange(len(self.start) - 1).to(first)
        group = group.repeat_interleave(self.start.diff())
        score = (keys @ self.key).masked_fill(group != first[:, None], -math.inf)
        best, place = score.topk(size, dim=1)
        share = (best > -math.inf).to(keys.dtype)
        # Sorted by patch, those that do not count last: a patch answers once.
        patch = torch.where(share > 0, self.patch[place], self.patch.amax() + 1)
        patch, order = patch.sort(dim=1, stable=True)
        share = share.gather(1, order)
        share[:, 1:] *= patch[:, 1:] != patch[:, :-1]
        return torch.where(share > 0, patch, 0), share
