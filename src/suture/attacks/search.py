"""Random search in place: a few pixels change, the model is asked, the change stays or goes.

A candidate differs from the best image in a small window, so only the window is written, and
written back where the loss did not fall. Nothing here passes over whole images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from suture.attacks import kernels, square_kernels
from suture.attacks.geometry import column, margin
from suture.attacks.loss_kinds import Loss
from suture.attacks.oracle import Oracle


@dataclass(frozen=True, eq=False)
class Edit:
    """New values ``(k, c, m)`` at the flat pixel positions ``index``, int64 ``(k, m)``.

    A position that stands twice in a row of ``index`` must get the same value both times.
    ``before`` may give the best image's values there, where they are known already.
    """

    index: Tensor
    values: Tensor
    before: Tensor | None = None


class Change(Protocol):
    """What a step tries on the best images, in place."""

    def make(self, images: Tensor) -> None:
        """Change the images."""

    def undo(self, images: Tensor, kept: Tensor) -> None:
        """Restore those that are not kept, bool ``(k,)``."""


def take(images: Tensor, index: Tensor) -> Tensor:
    """Values ``(k, c, m)`` of ``(k, c, h, w)`` images at flat pixel positions ``(k, m)``."""
    return images.flatten(2).gather(2, index[:, None].expand(-1, images.shape[1], -1))


def put(images: Tensor, index: Tensor, values: Tensor) -> None:
    """Write ``values`` at flat pixel positions, in place; images must be contiguous."""
    flat = images.view(*images.shape[:2], -1)
    if kernels.compiles(flat, values):
        square_kernels.write(flat.numpy(), index.numpy(), values.numpy())
        return
    flat.scatter_(2, index[:, None].expand(-1, images.shape[1], -1), values)


class Edits:
    """Several edits, made in their order."""

    def __init__(self, *edits: Edit) -> None:
        self._edits = edits
        self._before: list[Tensor] = []

    def make(self, images: Tensor) -> None:
        """Write the values."""
        self._before = [
            take(images, e.index) if e.before is None else e.before for e in self._edits
        ]
        for edit in self._edits:
            put(images, edit.index, edit.values)

    def undo(self, images: Tensor, kept: Tensor) -> None:
        """In the same order: where edits overlap, kept images end as they were asked about."""
        for edit, before in zip(self._edits, self._before, strict=True):
            if kernels.compiles(images, before):
                flat = images.flatten(2).numpy()
                square_kernels.write(flat, *(t.numpy() for t in (edit.index, before, kept)))
            else:
                put(images, edit.index, torch.where(kept[:, None, None], edit.values, before))


def applied(images: Tensor, change: Change) -> Tensor:
    """A copy of the images with the change made."""
    images = images.clone(memory_format=torch.contiguous_format)
    change.make(images)
    return images


class Search:
    """The best image found for every row that is still searched; all fields are aligned rows.

    Attributes:
        rows: rows of the oracle. clean, best: images. loss: the best one's, lower is better.
        state: tensors of the method's own, one entry a row, that leave with their image.

    Args:
        early_stop: images leave as soon as one query reaches the goal.
        loss: what is lowered (raised for a targeted attack).
    """

    def __init__(
        self,
        oracle: Oracle,
        clean: Tensor,
        rows: Tensor,
        *,
        early_stop: bool = True,
        loss: Loss = margin,
    ) -> None:
        self.oracle, self.clean, self.rows = oracle, clean, rows
        self.best = clean.clone(memory_format=torch.contiguous_format)
        self.loss = torch.full((len(rows),), float("inf"), device=clean.device)
        self.state: dict[str, Tensor] = {}
        self._early_stop, self._loss = early_stop, loss
        self._place = torch.arange(len(rows), device=rows.device)
        self._found = clean.clone()

    def start(self, candidates: Tensor) -> Tensor:
        """Ask about whole images; returns which were kept, for the images that stay."""
        loss, done = self._ask(candidates)
        kept = loss < self.loss
        self.best = torch.where(column(kept), candidates, self.best)
        self.loss = torch.where(kept, loss, self.loss)
        return self._settle(kept, done)

    def step(self, change: Change) -> Tensor:
        """Ask about the best images with the change; returns which were kept, as ``start``."""
        change.make(self.best)
        loss, done = self._ask(self.best)
        kept = self._accept(loss, done)
        change.undo(self.best, kept)
        return self._settle(kept, done)

    def result(self) -> Tensor:
        """The best image of every row, finished or not."""
        self._found[self._place] = self.best
        return self._found

    def _ask(self, candidates: Tensor) -> tuple[Tensor, Tensor]:
        oracle = self.oracle
        logits, loss = oracle.losses(candidates, self.rows, self._loss)
        done = oracle.reached(logits, self.rows)
        done = done if self._early_stop else torch.zeros_like(done)
        return -loss if oracle.targeted else loss, done

    def _accept(self, loss: Tensor, done: Tensor) -> Tensor:
        """Which candidates are kept: those of lower loss, and those that reach the goal."""
        if kernels.compiles(loss, self.loss):
            accepted = np.empty(loss.shape[0], np.bool_)
            square_kernels.accept(loss.numpy(), done.numpy(), self.loss.numpy(), accepted)
            return torch.from_numpy(accepted)
        kept = (loss < self.loss) | done
        self.loss = torch.where(kept, loss, self.loss)
        return kept

    def _settle(self, kept: Tensor, done: Tensor) -> Tensor:
        done = self.oracle.or_spent(done, self.rows)
        if not bool(done.any()):
            return kept
        self._found[self._place[done]] = self.best[done]
        stay = (~done).nonzero()[:, 0]
        for name in ("clean", "rows", "best", "loss", "_place"):
            setattr(self, name, getattr(self, name).index_select(0, stay))
        self.state = {name: values.index_select(0, stay) for name, values in self.state.items()}
        return kept.index_select(0, stay)
