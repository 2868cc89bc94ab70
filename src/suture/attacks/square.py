"""Square Attack: random search over square windows (Andriushchenko et al. 2020, arXiv:1912.00049).

Position and colours are drawn per image (some libraries share one position across a batch), and
all images that still hold are queried together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from suture.attacks.base import Attack, require, require_finite_eps
from suture.attacks.geometry import margin
from suture.attacks.oracle import Oracle
from suture.attacks.square_moves import MOVES
from suture.types import Knowledge

# The share of pixels in the square is halved at these iterations of 10 000 (paper, section 5).
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Black-box random search on the margin loss (paper, Algorithms 1 to 3).

    Args:
        queries: budget per image; with ``eot=R`` every candidate costs R of them.
        p: initial share of pixels in the square (authors' code: 0.8).
        rescale_schedule: stretch the halving schedule, made for 10 000 queries, to the budget.
        early_stop: an image leaves as soon as one query finds it misclassified. Without it the
            search spends its whole budget and keeps the lowest loss: stronger against a
            randomised model, where one lucky draw means little.
    """

    queries: int = 5000
    p: float = 0.8
    rescale_schedule: bool = True
    early_stop: bool = True

    knowledge: ClassVar[Knowledge] = "black-box"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite_eps(self.eps, "Square")
        require(self.queries >= self.eot, "queries >= eot", f"queries={self.queries!r}")
        require(0 < self.p <= 1, "p in (0, 1]", f"p={self.p!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        moves = MOVES[self.norm]
        search = _Search(oracle, images, rows)
        steps = self.queries // self.eot
        for step in range(steps):
            lanes = torch.arange(moves.lanes(images, step == 0), device=images.device)[None]
            draws = oracle.random_bits(search.rows, step, lanes)
            if step == 0:
                candidates = moves.start(search.clean, self.eps, draws)
            else:
                side = self._side(step, steps, images)
                candidates = moves.propose(search.clean, search.best, self.eps, side, draws)
            search.query(candidates, self.early_stop)
            if not len(search.rows):
                break
        return search.result()

    def _side(self, step: int, steps: int, images: Tensor) -> int:
        """Side of the square at this step (authors' ``p_selection``)."""
        position = int(step / steps * 10_000) if self.rescale_schedule else step
        share = self.p / 2 ** sum(position > at for at in _HALVINGS)
        height, width = images.shape[-2:]
        return max(1, min(height, width, round(math.sqrt(share * height * width))))


class _Search:
    """The best candidate of every image that is still searched; all fields are aligned rows."""

    def __init__(self, oracle: Oracle, clean: Tensor, rows: Tensor) -> None:
        self.oracle, self.clean, self.rows = oracle, clean, rows
        self.best = clean.clone()
        self.loss = torch.full((len(rows),), float("inf"), device=clean.device)
        self._place = torch.arange(len(rows), device=rows.device)
        self._found = clean.clone()

    def query(self, candidates: Tensor, early_stop: bool) -> None:
        """Ask the model, keep what is better, and let finished images leave."""
        logits = self.oracle.logits(candidates, self.rows)
        loss = margin(logits, self.oracle.goals[self.rows])
        loss = -loss if self.oracle.targeted else loss
        done = self.oracle.reached(logits, self.rows) & early_stop
        better = (loss < self.loss) | done
        kept = better.nonzero()[:, 0]
        self.best[kept], self.loss[kept] = candidates[kept], loss[kept]
        if bool(done.any()):
            self._leave(done)

    def _leave(self, done: Tensor) -> None:
        self._found[self._place[done]] = self.best[done]
        for name in ("clean", "rows", "best", "loss", "_place"):
            setattr(self, name, getattr(self, name)[~done])

    def result(self) -> Tensor:
        """The best candidate of every image, finished or not."""
        self._found[self._place] = self.best
        return self._found
