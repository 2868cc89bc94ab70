"""Counterexample rounds: attack the *defended* model, add what succeeds, synthesise again.

The paper attacks the undefended model once. Here an attacker who knows the defence goes on where
it left off: he averages over draws (``attacks.knowing``), and every image that he turns joins
the attacked ones that programs are scored on. After each round the model that keeps more held-out
training images right under that attacker stays; of equals the earlier one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from suture.attacks import Attack
from suture.attacks.against.knowing import knowing
from suture.engine import Engine
from suture.repairs.defensyn.defended import DefendedClassifier
from suture.repairs.defensyn.gathering import Attacked, OnStage, attacked
from suture.rng import Stream
from suture.types import Batch


@dataclass(frozen=True, eq=False)
class Found:
    """One synthesis: the defended model, and its part of the trace."""

    model: DefendedClassifier
    trace: dict[str, Any]


Synthesise = Callable[[Batch, int], Found]
"""Programs from these attacked images; the number tells the rounds' random streams apart."""


@dataclass(frozen=True, eq=False)
class Rounds:
    """What the rounds need.

    Attributes:
        synthesise: makes a defended model.
        attacks: as the method has them; here each averages over ``eot`` draws.
        clean: training images, attacked again in every round.
        held_out: training images that no synthesis sees, to choose by.
        count: rounds at most; they end early when nothing is turned any more.
        engine, batch_size, stream, tell: as everywhere.
    """

    synthesise: Synthesise
    attacks: tuple[Attack, ...]
    clean: Batch
    held_out: Batch
    count: int
    eot: int
    engine: Engine
    batch_size: int
    stream: Stream
    tell: OnStage

    def run(self, first: Found, adversarial: Batch) -> tuple[Found, list[dict[str, Any]]]:
        """The best model, and one line a round: what was added, what each model kept right."""
        last, kept = first, self._right(first, 0)
        best, most = first, kept
        lines = [{"round": 0, "added": 0, **self._counts(kept)}]
        for number in range(1, self.count + 1):
            new = self._turned(last, number)
            if new is None:
                break
            adversarial = Batch.concat([adversarial, new])
            last = self.synthesise(adversarial, number)
            kept = self._right(last, number)
            lines.append({"round": number, "added": len(new), **self._counts(kept)})
            if kept > most:
                best, most = last, kept
        return best, lines

    def _counts(self, right: int) -> dict[str, int]:
        return {"held_out_right": right, "held_out": len(self.held_out) * len(self.attacks)}

    def _turned(self, found: Found, number: int) -> Batch | None:
        return self._attack(found, self.clean, f"training images again, round {number}").turned

    def _right(self, found: Found, number: int) -> int:
        """Held-out images that stay right, over all attacks."""
        return self._attack(found, self.held_out, f"held-out images, round {number}").held

    def _attack(self, found: Found, batch: Batch, what: str) -> Attacked:
        """The attacks by someone who averages; every model meets the same random streams."""
        return attacked(
            tuple(knowing(attack, self.eot) for attack in self.attacks),
            found.model,
            batch,
            self.stream.child("rounds"),
            engine=self.engine,
            batch_size=self.batch_size,
            tell=self.tell,
            what=what,
        )
