"""Programs that go on from others: ``P; P`` is a program (the grammar's first rule)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from suture.repairs.defensyn.encoding import NOTHING, Encoded, empty, encode
from suture.repairs.defensyn.language import Program
from suture.repairs.defensyn.sampling import Sampler


@dataclass(frozen=True)
class GrowingSampler:
    """Random programs after a base: program ``i`` goes on from base ``i mod (B + 1)``.

    The last of these is no base at all: the program stands for itself.

    Attributes:
        fresh: draws what is added.
        bases: B programs.
    """

    fresh: Sampler
    bases: tuple[Program, ...]

    @property
    def left(self) -> NDArray[np.float64]:
        """Probabilities of repaired features in what is added."""
        return self.fresh.left

    @property
    def right(self) -> NDArray[np.float64]:
        """Probabilities of repairing features in what is added."""
        return self.fresh.right

    @cached_property
    def _before(self) -> tuple[Encoded, NDArray[np.int64]]:
        encoded = encode(self.bases)
        return encoded, (encoded.op != NOTHING).sum(1)

    def draw(self, start: int, count: int, length: int) -> Encoded:
        """Programs ``start … start + count - 1``, each ``length`` longer than its base."""
        added, (before, lengths) = self.fresh.draw(start, count, length), self._before
        longest = before.op.shape[1]
        drawn = empty(count, longest + length)
        base = np.arange(start, start + count) % (len(self.bases) + 1)
        for index, own in enumerate([*lengths.tolist(), 0]):
            rows = np.flatnonzero(base == index)
            for to, new in zip(drawn.arrays, added.arrays, strict=True):
                to[rows, own : own + length] = new[rows]
            if own:
                for to, old in zip(drawn.arrays, before.arrays, strict=True):
                    to[rows, :own] = old[index, :own]
        return drawn
