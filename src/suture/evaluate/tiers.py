"""What an attacker who knows the defence tries: a few attacks, the field's set, or everything."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from suture.attacks import (
    APGD,
    PGD,
    Attack,
    AutoAttack,
    BasinHopping,
    SparseRS,
    Square,
    knowing,
)
from suture.errors import ArgumentError, unknown_name
from suture.types import Norm

LEAST_CLASSES = 4
"""The targeted DLR loss compares four logits."""


@dataclass(frozen=True)
class Tier:
    """How much the adaptive attacker spends.

    Args:
        name: for the records.
        steps, restarts: of PGD, whose restarts take cross entropy, margin and clipped margins in
            turn.
        targets: classes that APGD-T runs towards; 0 leaves it out.
        queries: of Square and Sparse-RS.
        ensemble: AutoAttack in this version on models whose draws are all known, besides "rand"
            on all that draw; empty for neither.
        hops: of basin hopping, which comes with the ensemble where all draws are known; 0 leaves
            it out.
    """

    name: str = "brief"
    steps: int = 20
    restarts: int = 1
    targets: int = 0
    queries: int = 100
    ensemble: Literal["", "standard", "plus"] = ""
    hops: int = 0

    def direct(
        self, norm: Norm, eps: float, classes: int, draws: int, *, randomised: bool, finite: bool
    ) -> list[Attack]:
        """Attacks on the model itself.

        The ensemble meets a model whose draws are all known as it meets a deterministic one, with
        exact means: before and after are attacked alike. "rand" comes on top where it draws.
        """
        made = self.gradients(norm, eps, classes, draws)
        if math.isinf(eps) or norm == "l0":
            return made
        square = knowing(Square(norm=norm, eps=eps, queries=self.queries), draws)
        if not self.ensemble:
            return [*made, square]
        versions: list[Literal["standard", "plus", "rand"]] = ["rand"] if randomised else []
        if finite:
            # APGD-T is a part of it.
            versions = [self.ensemble, *versions]
            made = self.gradients(norm, eps, 0, draws)
            made += [knowing(attack, draws) for attack in self._thorough(norm, eps)]
        whole = [AutoAttack(norm=norm, eps=eps, version=version) for version in versions]
        return [*made, square, *(knowing(attack, draws) for attack in whole)]

    def gradients(self, norm: Norm, eps: float, classes: int, draws: int) -> list[Attack]:
        """Attacks that also follow the gradients of models that stand in for this one.

        In L0, where none of them is at home, random search.
        """
        if math.isinf(eps):
            return []
        return [knowing(attack, draws) for attack in self._parts(norm, eps, classes)]

    def _parts(self, norm: Norm, eps: float, classes: int) -> Iterator[Attack]:
        if norm == "l0":
            yield SparseRS(eps=eps, queries=self.queries)
            return
        yield self.white(norm, eps)
        if self.targets and classes >= LEAST_CLASSES:
            steps = 100 if self.ensemble else self.steps
            yield APGD(norm=norm, eps=eps, steps=steps, loss="dlr-targeted", classes=self.targets)

    def _thorough(self, norm: Norm, eps: float) -> Iterator[Attack]:
        """What finds images that the ensemble leaves.

        The bare difference of two logits, where those are large; ascents that go on from the best
        point so far, where the margin is rough.
        """
        classes = max(1, self.targets)
        yield APGD(norm=norm, eps=eps, loss="margin-targeted", classes=classes)
        if self.hops:
            yield BasinHopping(norm=norm, eps=eps, hops=self.hops, patience=max(1, self.hops // 3))

    def white(self, norm: Norm, eps: float) -> PGD:
        """PGD over all losses; in L1 it is SLIDE."""
        return PGD(norm=norm, eps=eps, steps=self.steps, restarts=self.restarts, loss="spread")


TIERS: Mapping[str, Tier] = {
    "quick": Tier("quick", steps=20, restarts=3, targets=3, queries=300),
    "standard": Tier(
        "standard", steps=40, restarts=3, targets=9, queries=1_000, ensemble="standard", hops=60
    ),
    "deep": Tier(
        "deep", steps=100, restarts=9, targets=9, queries=5_000, ensemble="plus", hops=200
    ),
}
"""Name → how hard the attacker tries: quick, standard, deep."""


def tier_of(name: str) -> Tier:
    """The tier of that name.

    Raises:
        ArgumentError: there is none.
    """
    if name not in TIERS:
        raise ArgumentError(
            expected=f"a tier out of {', '.join(TIERS)}",
            got=unknown_name("tier", name, tuple(TIERS)),
            remedy="quick to look, standard for a figure, deep before you publish one.",
        )
    return TIERS[name]
