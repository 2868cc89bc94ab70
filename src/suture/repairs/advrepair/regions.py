"""Where a network must behave, and how: boxes of inputs with linear claims about the outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from suture.bounds import margin_rows
from suture.data.vnnlib import Property
from suture.errors import ArgumentError
from suture.repairs.advrepair.index import CubeIndex
from suture.types import Batch, Box


@dataclass(frozen=True, eq=False)
class Regions:
    """m regions, each with the same number of linear forms ``rows · F(x) + add``.

    A region holds if on its whole box, for every clause, one of the clause's forms is positive.
    A robustness ball has ``classes - 1`` clauses of one form each: ``logit_label - logit_j``.

    Attributes:
        centre: float32 ``(m, *in_shape)``.
        half: ``(m, *in_shape)``, half widths, before any clipping.
        box: the inputs that are claimed about, ``(m, *in_shape)``; the part of ``centre ± half``
            that valid inputs can reach.
        rows: ``(m, k, classes)``.
        add: ``(m, k)``.
        clause: which clause each of the k forms belongs to, counted from 0.
        labels: int64 ``(m,)``: the class of robustness balls, else ``None``.
    """

    centre: Tensor
    half: Tensor
    box: Box
    rows: Tensor
    add: Tensor
    clause: tuple[int, ...]
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.centre)

    @property
    def cubes(self) -> bool:
        """Whether all regions are L∞ balls of one radius."""
        return bool((self.half == self.half.flatten()[0]).all())

    def claim(self, region: int, bounds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best form of every clause, given lower bounds ``(k,)``: rows, add, bounds."""
        of = torch.tensor(self.clause)
        forms = [_best(of == c, bounds) for c in range(max(self.clause) + 1)]
        return self.rows[region, forms], self.add[region, forms], bounds[forms]

    def holds(self, outputs: Tensor, region: Tensor) -> Tensor:
        """Bool ``(n,)``: which outputs ``(n, classes)`` fulfil the claims of their regions."""
        values = torch.einsum("nkc,nc->nk", self.rows[region], outputs) + self.add[region]
        return worst_clause(values, self.clause) > 0

    def overlaps(self, gap: float = 0.0) -> Tensor:
        """Pairs of regions that come within ``gap`` of each other, int64 ``(2, q)``: each with
        itself, and both ways round."""
        centre, half = self.centre.flatten(1), self.half.flatten(1)
        if self.cubes:
            index = CubeIndex.of(centre, 2 * float(half[0, 0]) + gap)
            return torch.stack(index.pairs(centre)[:2])
        near = [
            ((centre - c).abs() - half - h <= gap).all(1) for c, h in zip(centre, half, strict=True)
        ]
        return torch.stack(near).nonzero().T

    def groups(self) -> Tensor:
        """int64 ``(m,)``: regions that overlap and claim the same share a number, from 0 on.

        Where two balls of one class meet, one patch answers for both: then the proof of each
        speaks of everything that can answer in it.
        """
        one, other = self.overlaps(_NEAR)
        if self.labels is not None:
            same = self.labels[one] == self.labels[other]
            one, other = one[same], other[same]
        link = one.numpy(), other.numpy()
        graph = coo_array(([1] * len(one), link), shape=(len(self),) * 2)
        return torch.from_numpy(connected_components(graph, directed=False)[1]).long()

    def to(self, dtype: torch.dtype) -> Regions:
        """With claims of another floating-point type; boxes keep their numbers."""
        box = Box(self.box.lower.to(dtype), self.box.upper.to(dtype))
        return replace(self, box=box, rows=self.rows.to(dtype), add=self.add.to(dtype))


_NEAR = 4e-6


def _best(mask: Tensor, bounds: Tensor) -> int:
    return int(bounds.masked_fill(~mask.to(bounds.device), float("-inf")).argmax())


def worst_clause(values: Tensor, clause: tuple[int, ...]) -> Tensor:
    """``(n, k)`` values of forms → ``(n,)``: the best form of every clause, the worst of those."""
    return per_clause(values, clause).amin(1)


def per_clause(values: Tensor, clause: tuple[int, ...]) -> Tensor:
    """``(n, k)`` values of forms → ``(n, clauses)``: the largest of each clause."""
    count = max(clause) + 1
    if count == len(clause):
        return values
    of = torch.tensor(clause, device=values.device)
    return torch.stack([values[:, of == c].amax(1) for c in range(count)], 1)


def balls(batch: Batch, radius: float, classes: int) -> Regions:
    """L∞ balls around images, in which the label must stay; boxes are clipped to [0, 1]."""
    rows = margin_rows(batch.labels, classes, batch.images.dtype)
    return Regions(
        batch.images,
        torch.full_like(batch.images, radius),
        Box.around(batch.images, radius),
        rows,
        rows.new_zeros(rows.shape[:2]),
        tuple(range(classes - 1)),
        batch.labels,
    )


def of_property(given: Property, in_shape: tuple[int, ...]) -> Regions:
    """The boxes of a VNN-LIB property: no input of them may have an output that it calls unsafe.

    Unsafe is ``A y <= b``, all rows; safe therefore ``A_i y - b_i > 0`` for one row i, which is a
    clause. Boxes are rounded outwards to float32.

    Raises:
        ArgumentError: a property without boxes, or one that calls every output unsafe.
    """
    if not given.boxes or not given.unsafe or any(not len(b) for _, b in given.unsafe):
        raise ArgumentError(
            expected="a property with boxes of inputs and conditions on the outputs",
            got=f"{len(given.boxes)} boxes, {len(given.unsafe)} conditions",
            remedy="Check the file; a repair needs something that a network can fulfil.",
        )
    low = torch.stack([_outwards(torch.from_numpy(b[0]), -1.0) for b in given.boxes])
    high = torch.stack([_outwards(torch.from_numpy(b[1]), 1.0) for b in given.boxes])
    low, high = low.view(-1, *in_shape), high.view(-1, *in_shape)
    rows = torch.cat([torch.from_numpy(a).float() for a, _ in given.unsafe])
    add = torch.cat([-torch.from_numpy(b).float() for _, b in given.unsafe])
    clause = [c for c, (_, b) in enumerate(given.unsafe) for _ in b]
    centre, many = (low + high) / 2, len(low)
    half = torch.maximum(centre - low, high - centre)
    return Regions(
        centre, half, Box(low, high), rows.expand(many, -1, -1), add.expand(many, -1), tuple(clause)
    )


def _outwards(values: Tensor, sign: float) -> Tensor:
    """The nearest float32 that does not cut anything off."""
    near = values.float()
    short = (near.double() - values) * sign < 0
    return torch.where(
        short, torch.nextafter(near, torch.full_like(near, sign * float("inf"))), near
    )
