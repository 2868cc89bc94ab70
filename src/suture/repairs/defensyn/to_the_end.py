"""PGD that takes all its steps: what the game attacks mixtures with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from suture.attacks import PGD, Attack
from suture.attacks.against.candidates import Kept
from suture.attacks.against.knowing import knowing
from suture.attacks.geometry import project
from suture.attacks.losses import LOSSES
from suture.attacks.oracle import Oracle
from suture.attacks.pgd import SPREAD
from suture.attacks.steps import steepest
from suture.types import Batch


@dataclass(frozen=True, kw_only=True)
class PGDToTheEnd(PGD):
    """PGD that goes on where an image is misclassified already, of one classifier too.

    An image that has only just crossed the line teaches little: the next program takes it back.
    Of all candidates the one is kept that the smallest share of draws gets right, of equals the
    one with the smallest mean margin.
    """

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        """Every step of every restart; the keeper has seen them all."""
        step = 2.5 * self.eps / self.steps if self.step_size is None else self.step_size
        here = images
        for restart in range(self.restarts):
            here = self._start(oracle, images, rows, restart)
            name = SPREAD[restart % len(SPREAD)] if self.loss == "spread" else self.loss
            for _ in range(self.steps):
                _, gradient = oracle.gradient(here, rows, LOSSES[name])
                along = steepest(self.norm, gradient).mul_(step)
                here = project(self.norm, self.eps, images, along.add_(here))
        return here

    def _kept(
        self,
        model: nn.Module,
        batch: Batch,
        targets: Tensor | None,
        transfer_from: nn.Module | None,
    ) -> Kept:
        goals = batch.labels if targets is None else targets
        return Kept(batch.images, goals, targeted=targets is not None, norm=self.norm, eps=self.eps)


def game_attacks(attack: Attack) -> tuple[Attack, ...]:
    """The given attack by someone who knows the mixture; gradients beside it if it has none."""
    followed = attack.norm in ("linf", "l2") and attack.eps < float("inf")
    if not followed:
        return (knowing(attack),)
    steps, restarts = (
        (attack.steps, attack.restarts) if isinstance(attack, PGD) else (STEPS, RESTARTS)
    )
    full = PGDToTheEnd(
        norm=attack.norm, eps=attack.eps, steps=steps, restarts=restarts, loss="spread"
    )
    own = () if isinstance(attack, PGD) else (attack,)
    return tuple(knowing(one) for one in (*own, full))


STEPS, RESTARTS = 40, 3
"""Of the gradients beside an attack that has none or other ones."""
