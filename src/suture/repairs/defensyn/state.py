"""What the search knows: candidates, sums per feature, and the summary of a chunk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suture.repairs.defensyn.language import Program


@dataclass(frozen=True)
class Candidate:
    """A program with its counts; ``order`` is (length, index), earlier wins ties."""

    program: Program
    adversarial: int
    clean: int
    score: float
    order: tuple[int, int]

    @property
    def rank(self) -> tuple[float, tuple[int, int]]:
        """Sorts best first."""
        return (-self.score, self.order)


@dataclass(frozen=True, eq=False)
class Sums:
    """Per feature: counts of right samples over the programs that use it, and how many do.

    Integers, so that any order of adding gives the same bits. Each array is int64 ``(m, 3)``:
    adversarial right, clean right, programs.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]

    @staticmethod
    def zero(features: int) -> Sums:
        """No program seen yet."""
        return Sums(np.zeros((features, 3), np.int64), np.zeros((features, 3), np.int64))

    def add(self, other: Sums) -> None:
        """Take another chunk's sums in."""
        self.left[:] += other.left
        self.right[:] += other.right


@dataclass(frozen=True, eq=False)
class Summary:
    """What is kept of a chunk of programs."""

    best: list[Candidate]
    sums: Sums
    discarded: int
