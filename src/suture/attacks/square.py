"""Square Attack: random search over square windows (Andriushchenko et al. 2020, arXiv:1912.00049).

Position and colours are drawn per image (some libraries share one position across a batch), and
all images that still hold are queried together.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from suture.attacks.base import ATTACKS, Attack, require, require_finite_eps
from suture.attacks.oracle import Oracle
from suture.attacks.search import Search
from suture.attacks.square_l1_moves import MOVES_L1
from suture.attacks.square_moves import MOVES, energy_of
from suture.types import Knowledge, Norm

# The share of pixels in the square is halved at these iterations of 10 000 (paper, section 5).
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_MOVES = {**MOVES, "l1": MOVES_L1}
_BLOCK = 64
"""Steps whose random bits are drawn at once."""


@ATTACKS.add("square")
@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Black-box random search on the margin loss (paper, Algorithms 1 to 3).

    In L1 the windows are those of Croce & Hein 2021 (arXiv:2103.01208).

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

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    knowledge: ClassVar[Knowledge] = "black-box"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite_eps(self.eps, "Square")
        enough = self.queries >= (1 if self.adaptive else self.eot)
        require(enough, "queries >= eot", f"queries={self.queries!r}")
        require(0 < self.p <= 1, "p in (0, 1]", f"p={self.p!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        moves, steps = _MOVES[self.norm], self.allowance(oracle, self.queries)
        search = Search(oracle, images, rows, early_stop=self.early_stop)
        lanes = torch.arange(moves.lanes(images, True), device=images.device)[None]
        search.start(moves.start(images, self.eps, oracle.random_bits(rows, 0, lanes)))
        for step in range(1, steps):
            if not len(search.rows):
                break
            if step % _BLOCK == 1:
                self._refresh(search, step)
            draws = search.state["draws"][:, (step - 1) % _BLOCK]
            side = self._side(step, steps, images)
            energy = search.state["energy"]
            change, moved = moves.edit(search.clean, search.best, energy, self.eps, side, draws)
            if moved is energy:
                search.step(change)
                continue
            search.state["moved"] = moved
            kept = search.step(change)
            search.state["energy"] = torch.where(
                kept, search.state["moved"], search.state["energy"]
            )
        return search.result()

    def _refresh(self, search: Search, step: int) -> None:
        """Draw the random bits of a block of steps, and measure the distance afresh."""
        device = search.clean.device
        steps = torch.arange(step, step + _BLOCK, device=device)[None, :, None]
        lanes = torch.arange(_MOVES[self.norm].lanes(search.clean, False), device=device)
        search.state["draws"] = search.oracle.random_bits(search.rows, steps, lanes[None, None])
        search.state["energy"] = energy_of(search.clean, search.best)

    def _side(self, step: int, steps: int, images: Tensor) -> int:
        """Side of the square at this step (authors' ``p_selection``)."""
        position = int(step / steps * 10_000) if self.rescale_schedule else step
        share = self.p / 2 ** bisect_left(_HALVINGS, position)
        height, width = images.shape[-2:]
        return max(1, min(height, width, round(math.sqrt(share * height * width))))
