"""Pixle: pixels copied to other places (Pomponi, Scardapane & Uncini 2022, arXiv:2202.02236)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from suture.attacks.base import ATTACKS, Attack, require
from suture.attacks.losses import negated
from suture.attacks.oracle import Oracle
from suture.attacks.steps import Rows, cross_entropies
from suture.rng import integers
from suture.types import Knowledge, Norm

_SLOT = 4
"""Draws before those of the destinations: place and size of the source patch."""


@ATTACKS.add("pixle")
@dataclass(frozen=True, kw_only=True)
class Pixle(Attack):
    """Random search that copies a patch's pixels to random places of the image.

    Each of ``restarts`` rounds tries ``iterations`` copies from the clean image into the best
    image of the round before, and keeps the one that the true class likes least (paper,
    Algorithm 1; the authors' pixel mapping "random"). Where several pixels land on one place the
    last one stays.

    Args:
        eps: pixels that may change; unbounded as in the paper (the patches bound it).
        restarts: rounds (authors: 20).
        iterations: copies tried per round, each one query (authors: 10).
        x_dimensions, y_dimensions: smallest and largest width and height of the source patch
            (authors: 2 to 10).
        update_each_iteration: a better copy is built upon at once, not after the round.
    """

    norm: Norm = "l0"
    eps: float = math.inf
    restarts: int = 20
    iterations: int = 10
    x_dimensions: tuple[int, int] = (2, 10)
    y_dimensions: tuple[int, int] = (2, 10)
    update_each_iteration: bool = False

    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    knowledge: ClassVar[Knowledge] = "black-box"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.restarts >= 1, "restarts >= 1", f"restarts={self.restarts!r}")
        require(self.iterations >= 1, "iterations >= 1", f"iterations={self.iterations!r}")
        for name in ("x_dimensions", "y_dimensions"):
            low, high = getattr(self, name)
            require(1 <= low <= high, f"{name}=(low, high), 1 <= low <= high", f"({low}, {high})")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        found = images.clone()
        state = Rows(clean=images, rows=rows, best=images.clone(), base=images.clone())
        state.base, state.loss = (
            state.base.contiguous(),
            torch.full_like(images[:, 0, 0, 0], math.inf),
        )
        for step in range(self.restarts * self.iterations):
            gone = self._try(oracle, state, step)
            found[state.place[gone]] = state.best[gone]
            state.leave(gone)
            if not len(state):
                return found
            if self.update_each_iteration or (step + 1) % self.iterations == 0:
                state.base = state.best.clone()
        found[state.place] = state.best
        return found

    def _try(self, oracle: Oracle, state: Rows, step: int) -> Tensor:
        """One copy for every image; returns who is finished."""
        index, values = self._copy(oracle, state, step)
        base = state.base.view(-1)
        before = base.take(index)
        base.put_(index, values)
        wish = cross_entropies if oracle.targeted else negated(cross_entropies)
        logits, loss = oracle.losses(state.base, state.rows, wish)
        gone = oracle.finished(logits, state.rows)
        better = (loss < state.loss) | oracle.reached(logits, state.rows)
        kept = better.nonzero()[:, 0]
        state.best[kept] = state.base[kept]
        state.loss = torch.where(better, loss, state.loss)
        base.put_(index, before)
        return gone

    def _copy(self, oracle: Oracle, state: Rows, step: int) -> tuple[Tensor, Tensor]:
        """One copy for every image: flat positions in the whole batch, and their new values."""
        channels, height, width = state.clean.shape[1:]
        most = (min(self.y_dimensions[1], height), min(self.x_dimensions[1], width))
        lanes = torch.arange(_SLOT + most[0] * most[1], device=state.clean.device)[None]
        bits = oracle.random_bits(state.rows, step, lanes)
        places, used = self._source(bits, height, width, most)
        image, slot = used.nonzero().unbind(1)
        size = height * width
        target = image * size + integers(bits[image, _SLOT + slot], size)
        # Slots of one destination all write what its last slot brings.
        last = torch.zeros(len(bits) * size, dtype=torch.int64, device=bits.device)
        last.scatter_reduce_(0, target, slot, "amax")
        source = image * size + places[image, last[target]]
        planes = torch.arange(channels, device=bits.device)[:, None] * size
        skipped = image * (channels - 1) * size + planes
        return target + skipped, state.clean.reshape(-1).take(source + skipped)

    def _source(
        self, bits: Tensor, height: int, width: int, most: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Pixel positions of the source patch, ``(k, slots)``, and which slots it uses."""
        spans = []
        for lane, (low, high), length in (
            (0, self.y_dimensions, height),
            (2, self.x_dimensions, width),
        ):
            start = integers(bits[:, lane], max(length - 1, 1))
            size = low + integers(bits[:, lane + 1], high - low + 1)
            spans.append((start[:, None], torch.minimum(size, length - start)[:, None]))
        (top, tall), (left, wide) = spans
        rows = torch.arange(most[0], device=bits.device)
        columns = torch.arange(most[1], device=bits.device)
        used = (rows < tall)[:, :, None] & (columns < wide)[:, None, :]
        places = (top + rows)[:, :, None] * width + (left + columns)[:, None, :]
        return places.flatten(1).clamp_max(height * width - 1), used.flatten(1)
