"""Local search over the constants of programs that a search has found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suture.repairs.defensyn.encoding import NOTHING, Encoded, encode
from suture.repairs.defensyn.language import Opcode, Program
from suture.repairs.defensyn.synthesis import Scorer
from suture.rng import Stream


@dataclass(frozen=True, eq=False)
class Refining:
    """Hill climbing: neighbours of every program are scored together, the best one is kept.

    Attributes:
        scorer: counts for encoded programs.
        lambda_: weight of clean samples.
        turns: steps of every program.
        neighbours: tried a turn; each moves about a third of the constants.
        width: how far, at first: standard deviation; it shrinks by half over five turns.
    """

    scorer: Scorer
    lambda_: float
    turns: int
    neighbours: int = 60
    width: float = 2.0

    def __call__(self, programs: list[Program], stream: Stream) -> list[Program]:
        """The programs with better constants; a program without any stays as it is."""
        if not programs or not self.turns:
            return programs
        found, rng = encode(programs), stream.numpy()
        best = self._scores(found)
        for turn in range(self.turns):
            around = self._around(found, self.width * 0.5 ** (turn / 5), rng)
            scores = self._scores(around).reshape(len(best), self.neighbours)
            winner = scores.argmax(1)
            rows = np.flatnonzero(scores[np.arange(len(best)), winner] > best)
            chosen = rows * self.neighbours + winner[rows]
            for to, new in zip(found.arrays, around.arrays, strict=True):
                to[rows] = new[chosen]
            best[rows] = scores[rows, winner[rows]]
        return [found.program(row) for row in range(len(found))]

    def _scores(self, programs: Encoded) -> NDArray[np.float64]:
        scores = self.scorer(programs)
        made = scores.adversarial + self.lambda_ * scores.clean
        return np.where(scores.valid, made, -np.inf)

    def _around(self, programs: Encoded, width: float, rng: np.random.Generator) -> Encoded:
        """``neighbours`` copies of each, constants moved."""
        copies = [np.repeat(array, self.neighbours, 0) for array in programs.arrays]
        around = Encoded(*copies)
        binary = around.op > int(Opcode.COPY)
        sides = (
            (around.left, around.left_constant, around.op >= 0),
            (around.right, around.right_constant, binary),
        )
        for index, constants, used in sides:
            shape = constants.shape
            moved = (index == NOTHING) & used & (rng.random(shape) < 1 / 3)
            constants += (moved * width * rng.standard_normal(shape)).astype(np.float32)
        return around
