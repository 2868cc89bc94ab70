"""What is worth a try against a threat, from cheap to dear, each with its share of the time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from suture.attacks import PGD, Attack, SparseRS, Square
from suture.repairs import NFGSM, DefEnSynGame, PGDTraining, Repair
from suture.repairs.adversarial_training import AdversarialTraining
from suture.training.config import Augment
from suture.types import LabelledImages, Norm

MANY = 10_000
"""Training images from which on a step takes 256 of them; 64 of fewer."""
FEW, COST, LEAST = 6, 4, 100
"""Epochs that should fit; forwards with backwards an image and epoch; images at least."""
ROUNDS, QUERIES, PROGRAMS = 6, 500, 0.25
"""Rounds of a game that should fit; queries an image and round; its share of the time."""
JUDGE = 6
"""Runs that a training's judge makes on an image, about: most images fall before the tenth."""


@dataclass(frozen=True)
class Proposal:
    """A method, and what speaks for it.

    Attributes:
        name: for the table.
        method: with its settings.
        why: a sentence.
    """

    name: str
    method: Repair
    why: str


@dataclass(frozen=True)
class Budget:
    """Time, or a number of epochs that repeats to the bit.

    Attributes:
        minutes: for all candidates together.
        epochs: of every training; ``None`` plans by the minutes.
        one: seconds of a forward with its backward, an image.
    """

    minutes: float
    epochs: int | None
    one: float

    def of(self, method: AdversarialTraining, share: float, images: int) -> AdversarialTraining:
        """The method with its share of the time.

        Where the network is so slow that not even ``FEW`` epochs of all images fit, it gets fewer
        images and fewer judgements.
        """
        if self.epochs is not None:
            return replace(method, epochs=self.epochs)
        seconds = 60 * share * self.minutes
        fits = int(seconds / (FEW * COST * self.one))
        judged = int(0.05 * seconds / (JUDGE * method.judge_steps * self.one))
        return replace(
            method,
            minutes=share * self.minutes,
            samples=max(LEAST, fits) if fits < images else None,
            judged=max(20, min(method.judged, judged)),
            judged_epochs=method.judged_epochs if judged >= method.judged else 2,
        )


def candidates(
    norm: Norm, eps: float, data: LabelledImages, limit: float, budget: Budget
) -> Iterator[Proposal]:
    """Against a norm and a radius.

    In L∞ nothing but training on attacked images withstands an attacker who knows the defence
    (docs, "Which repair for me"), so that is what is tried, with more and more of the network and
    of the time. In L2 and L1 it is the same training in an L∞ ball, and a mixture of programs,
    played for against the attacker, beside it; in L0 programs alone.

    Args:
        data: the training images; their shape and number decide details.
        limit: points of clean accuracy that may be lost.
        budget: what may be spent.
    """
    programs = {"linf": 0.0, "l0": 1.0}.get(norm, PROGRAMS)
    if programs < 1:
        augment: Augment = "flip-crop" if data.shape[0] == 3 else "shift"
        radius = within(norm, eps, math.prod(data.shape))
        size = 256 if len(data) >= MANY else 64
        common = {"eps": radius, "limit": limit, "augment": augment, "step_images": size}
        rest = replace(budget, minutes=(1 - programs) * budget.minutes)
        yield from _trained(rest, len(data), common)
    if programs:
        game = _game(norm, eps, limit, replace(budget, minutes=programs * budget.minutes))
        yield Proposal("defensyn-game", game, "programs, one drawn at random per input")


def _game(norm: Norm, eps: float, limit: float, budget: Budget) -> DefEnSynGame:
    """With so many images that some rounds fit; so many rounds as a training has epochs."""
    attack: Attack
    if norm == "l2":
        attack, passes = PGD(norm=norm, eps=eps, steps=20, restarts=3, loss="spread"), 60.0
    else:
        kind = SparseRS if norm == "l0" else partial(Square, norm=norm)
        attack, passes = kind(eps=eps, queries=QUERIES), QUERIES / 3  # a third without backward
    if budget.epochs is not None:
        return DefEnSynGame(attack=attack, limit=limit, rounds=budget.epochs)
    fits = int(60 * budget.minutes / (ROUNDS * passes * budget.one))
    samples = max(LEAST, min(DefEnSynGame.samples, fits))
    return DefEnSynGame(attack=attack, limit=limit, samples=samples, minutes=budget.minutes)


def within(norm: Norm, eps: float, pixels: int) -> float:
    """The L∞ radius to train at: ``2·eps / pixels^(1/p)``, twice the mean change of a pixel."""
    power = {"linf": 0.0, "l2": 0.5, "l1": 1.0}[norm]
    return min(1.0, eps if norm == "linf" else 2 * eps / pixels**power)


def _trained(budget: Budget, images: int, common: dict[str, Any]) -> Iterator[Proposal]:
    last = PGDTraining(layers=1, warm_up=0.0, reach=1.0, **common)
    yield Proposal(
        "pgd-training, last layer",
        budget.of(last, 0.08, images),
        "the cheapest: one layer learns",
    )
    yield Proposal(
        "n-fgsm",
        budget.of(NFGSM(**common), 0.25, images),
        "single steps: many epochs in little time",
    )
    yield Proposal(
        "pgd-training",
        budget.of(PGDTraining(**common), 0.67, images),
        "all layers, with most of the time",
    )
