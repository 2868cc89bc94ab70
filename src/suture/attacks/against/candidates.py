"""Which of all the images that an attack has asked about is kept, for each image it started from.

No draw and no average decides that an image has fallen: every candidate is judged by the share
of the model's draws that still get it right.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suture.attacks import kernels
from suture.attacks.against.answers import weighted
from suture.attacks.geometry import distance, margin
from suture.types import Norm

_HAIR = 1e-6
_NO_ODDS = np.empty(0, np.float32)


class Kept:
    """Per image, the candidate that the smallest share of draws gets right; ties by mean margin.

    Args:
        clean: ``(n, c, h, w)``, where each image's ball has its centre, and the first candidate.
        goals: int64 ``(n,)``, true classes, or targets.
        targeted: whether the goals are to be reached.
        norm, eps: the ball; candidates outside of it, or of [0, 1], do not count.

    Attributes:
        images: the best so far. share, margin: what it was judged by, ``(n,)``.
    """

    def __init__(
        self, clean: Tensor, goals: Tensor, *, targeted: bool, norm: Norm, eps: float
    ) -> None:
        self._clean, self._goals, self._targeted = clean, goals, targeted
        self._norm, self._eps = norm, eps
        self.images = clean.clone(memory_format=torch.contiguous_format)
        self.share = torch.full((len(goals),), 2.0, device=clean.device)
        self.margin = torch.full_like(self.share, float("inf"))
        books = (clean, self.images, self.share, self.margin)
        self._arrays: tuple[NDArray, ...] = ()
        if norm == "linf" and kernels.compiles(*books):
            self._arrays = kernels.flat(goals, *books)

    def see(self, images: Tensor, rows: Tensor, logits: Tensor, weights: Tensor | None) -> Tensor:
        """Judge candidates, keep the better ones, and say which of them no draw holds, ``(k,)``.

        Args:
            images: ``(k, c, h, w)``.
            rows: int64 ``(k,)``, whose candidates they are; may repeat.
            logits: ``(d, k, classes)``, the draws'.
            weights: probabilities of the draws, ``None`` if equal.
        """
        logits, images = logits.contiguous(), images.detach()
        if self._arrays and kernels.compiles(logits, images):
            return self._see_compiled(images, rows, logits, weights)
        share, gap = self._judged(logits, rows, weights)
        tied = (share == self.share[rows]) & (gap < self.margin[rows])
        index = ((share < self.share[rows]) | tied).nonzero()[:, 0]
        index = index[self._inside(images, rows, index)]
        index = _best_of_each(index, rows, share, gap)
        own = rows[index]
        self.images[own] = images[index]
        self.share[own], self.margin[own] = share[index], gap[index]
        return share == 0

    def _see_compiled(
        self, images: Tensor, rows: Tensor, logits: Tensor, weights: Tensor | None
    ) -> Tensor:
        goals, clean, *books = self._arrays
        seen, given = logits.numpy(), kernels.flat(images)[0]
        down = np.empty(rows.shape[0], np.bool_)
        odds = _NO_ODDS if weights is None else weights.numpy()
        limit = np.float32(self._eps + _HAIR)
        asked = (seen, odds, weights is None, rows.numpy(), goals, self._targeted)
        kernels.keep(*asked, given, clean, limit, tuple(books), down)
        return torch.from_numpy(down)

    def _judged(
        self, logits: Tensor, rows: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Share of draws that deny the attacker his goal, and by what mean margin they do."""
        if kernels.compiles(logits):
            share, gap = torch.empty(len(rows)), torch.empty(len(rows))
            odds = _NO_ODDS if weights is None else weights.numpy()
            known = (t.numpy() for t in (rows, self._goals))
            found = (t.numpy() for t in (share, gap))
            kernels.shares(logits.numpy(), odds, weights is None, *known, self._targeted, *found)
            return share, gap
        goals = self._goals[rows]
        hit = (logits.argmax(-1) == goals).to(logits.dtype)
        own = goals.expand(len(logits), -1).flatten()
        flat = margin(logits.flatten(0, 1), own).reshape(hit.shape)
        holds = 1 - hit if self._targeted else hit
        sign = -1.0 if self._targeted else 1.0
        share, gap = weighted(torch.stack([holds, flat], 1), weights)
        # A sum of probabilities that should be 1 is exactly that.
        return share.masked_fill(holds.amin(0) == 1, 1.0), sign * gap

    def _inside(self, images: Tensor, rows: Tensor, index: Tensor) -> Tensor:
        """Bool, for each candidate of the index: whether it is in its ball and in [0, 1]."""
        images, rows = images[index], rows[index]
        low, high = images.flatten(1).aminmax(dim=1)
        fits = (low >= 0) & (high <= 1)
        if self._eps < float("inf"):
            fits &= distance(self._norm, images - self._clean[rows]) <= self._eps + _HAIR
        return fits


def _best_of_each(index: Tensor, rows: Tensor, share: Tensor, gap: Tensor) -> Tensor:
    """Of several candidates of one row the best alone; the first of equals."""
    own = rows[index]
    if bool((own.diff() > 0).all()) or not bool((own.sort().values.diff() == 0).any()):
        return index
    order = index[gap[index].argsort(stable=True)]
    order = order[share[order].argsort(stable=True)]
    order = order[rows[order].argsort(stable=True)]
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = rows[order][1:] != rows[order][:-1]
    return order[first]
