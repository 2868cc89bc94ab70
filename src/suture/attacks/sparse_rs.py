"""Sparse-RS: random search over few pixels, a patch or a frame (Croce et al. 2022, 2006.12834)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from suture.attacks.base import ATTACKS, Attack, require, require_finite_eps
from suture.attacks.geometry import margin
from suture.attacks.losses import negated
from suture.attacks.oracle import Oracle
from suture.attacks.search import Search
from suture.attacks.sparse_moves import Frame, Patch, Pixels, SparseMoves
from suture.attacks.steps import cross_entropies
from suture.types import Knowledge, Norm

MOVES: dict[str, type[SparseMoves]] = {"pixels": Pixels, "patch": Patch, "frame": Frame}


@ATTACKS.add("sparse-rs")
@dataclass(frozen=True, kw_only=True)
class SparseRS(Attack):
    """Black-box random search that changes at most ``eps`` pixels (paper, Algorithm 1).

    A port of the authors' code, with positions and colours drawn per image (theirs share the
    positions across a batch). Colours are corners of the colour cube. The loss is the margin,
    for targeted attacks the cross entropy, as in theirs.

    Args:
        eps: pixels that may change (paper, CIFAR-10: 24). "patch" is the largest square and
            "frame" the widest border of at most that many pixels.
        shape: "pixels" anywhere; a square "patch" whose place is searched too; or a "frame".
        queries: budget per image; with ``eot=R`` every candidate costs R of them.
        p: initial share of pixels changed at once (authors' α: 0.3).
        rescale_schedule: stretch the schedule, made for 10 000 queries, to the budget.
        early_stop: an image leaves as soon as one query finds it misclassified.
    """

    norm: Norm = "l0"
    eps: float = 24
    shape: Literal["pixels", "patch", "frame"] = "pixels"
    queries: int = 5000
    p: float = 0.3
    rescale_schedule: bool = True
    early_stop: bool = True

    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    knowledge: ClassVar[Knowledge] = "black-box"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite_eps(self.eps, "SparseRS")
        require(self.eps == int(self.eps), "a whole number of pixels", f"eps={self.eps!r}")
        require(self.shape in MOVES, f"shape in {tuple(MOVES)}", f"shape={self.shape!r}")
        enough = self.queries >= (1 if self.adaptive else self.eot)
        require(enough, "queries >= eot", f"queries={self.queries!r}")
        require(0 < self.p <= 1, "p in (0, 1]", f"p={self.p!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        steps, height, width = self.allowance(oracle, self.queries), *images.shape[2:]
        moves = MOVES[self.shape](int(min(self.eps, height * width)), self.p, steps)
        if not moves.fits(height, width):
            return images
        loss = negated(cross_entropies) if oracle.targeted else margin
        search = Search(oracle, images, rows, early_stop=self.early_stop, loss=loss)
        moves.begin(search)
        for step in range(1, steps):
            if not len(search.rows):
                break
            at = int(step / steps * 10_000) if self.rescale_schedule else step
            moves.step(search, step, at)
        return search.result()
