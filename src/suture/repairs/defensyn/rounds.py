"""Counterexample rounds: attack the *defended* model, add what succeeds, synthesise again.

The paper attacks the undefended model once. Here an attacker who knows the programs goes on where
it left off (``attacks.knowing``): every query is the exact mean over them, and he follows their
gradients too. Every image that most programs get wrong joins the attacked ones that programs are
scored on. After each round the model stays whose programs keep the larger share of held-out
training images right under that attacker; of equals the earlier one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from suture.attacks import PGD, Attack
from suture.attacks.against.knowing import knowing
from suture.repairs.context import Context
from suture.repairs.defensyn.defended import DefendedClassifier
from suture.repairs.defensyn.gathering import Attacked, attacked
from suture.types import Batch


@dataclass(frozen=True, eq=False)
class SynthesisResult:
    """One synthesis: the defended model, and its part of the trace."""

    model: DefendedClassifier
    trace: dict[str, Any]


Synthesise = Callable[[Batch, int], SynthesisResult]
"""Programs from these attacked images; the number tells the rounds' random streams apart."""


@dataclass(frozen=True, eq=False)
class Rounds:
    """What the rounds need.

    Attributes:
        synthesise: makes a defended model.
        attacks: as the method has them; here each knows the model.
        clean: training images, attacked again in every round.
        held_out: training images that no synthesis sees, to choose by.
        count: rounds at most; they end early when nothing is turned any more.
        eot: draws that a query averages of a model without finitely many classifiers.
        context: as everywhere.
    """

    synthesise: Synthesise
    attacks: tuple[Attack, ...]
    clean: Batch
    held_out: Batch
    count: int
    eot: int
    context: Context

    def run(
        self, first: SynthesisResult, adversarial: Batch
    ) -> tuple[SynthesisResult, list[dict[str, Any]]]:
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

    def _counts(self, right: float) -> dict[str, float]:
        return {"held_out_right": round(right, 3), "held_out": len(self.held_out)}

    def _turned(self, found: SynthesisResult, number: int) -> Batch | None:
        return self._attack(found, self.clean, f"training images again, round {number}").turned

    def _right(self, found: SynthesisResult, number: int) -> float:
        """Held-out images that stay right, in expectation over the draw, whatever the attack."""
        what = f"held-out images, round {number}"
        return self._attack(found, self.held_out, what).held(len(self.held_out))

    def _attack(self, found: SynthesisResult, batch: Batch, what: str) -> Attacked:
        """The attacks by someone who knows the model; every model meets the same random streams."""
        attacks = knowing_attacks(self.attacks, self.eot)
        return attacked(attacks, found.model, batch, self.context.child("rounds"), what)


def knowing_attacks(attacks: tuple[Attack, ...], draws: int) -> tuple[Attack, ...]:
    """These attacks, and gradients over all programs in the same balls, by who knows the model."""
    balls = [(a.norm, a.eps) for a in attacks if a.norm in PGD.norms and not math.isinf(a.eps)]
    white = [PGD(norm=norm, eps=eps, steps=20, restarts=3, loss="spread") for norm, eps in balls]
    return tuple(dict.fromkeys(knowing(attack, draws) for attack in (*attacks, *white)))
