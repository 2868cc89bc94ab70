"""Which rows an evaluation measures: clean, as the paper, adaptive, curves and sanity checks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import nn

from suture.attacks import PGD, Attack, RandomNoise, Square, knowing
from suture.errors import ArgumentError
from suture.evaluate.records import Kind, Role
from suture.evaluate.rows import Row, Subject, fixed_models
from suture.evaluate.tiers import TIERS, Tier
from suture.types import LabelledImages, described, is_randomised, stages_of

Position = Literal["after", "before"]


@dataclass(frozen=True)
class Plan:
    """Which rows to measure.

    Args:
        attack: the attack of the paper protocol; its norm and radius hold for all rows.
        protocols: "paper", "adaptive", or both.
        tier: what the adaptive attacker tries besides ``attack`` and ``also``.
        eot: draws averaged against a randomised model without finite support; the largest
            number for all attacks, the others for PGD and ``attack``.
        repeats: repetitions of rows whose result is drawn.
        radii: multiples of the attack's radius for the accuracy-against-radius curve; empty for
            none.
        sanity: measure random noise, an unbounded radius and PGD with fewer steps, and look for
            signs of gradient masking in the model itself.
        also: further attacks for the adaptive protocol, with radii of their own.
        positions: where the attacker of a defence that moves images stands: "after" the move,
            "before" it, or both.
    """

    attack: Attack = field(default_factory=Square)
    protocols: tuple[Literal["paper", "adaptive"], ...] = ("paper", "adaptive")
    tier: Tier = TIERS["standard"]
    eot: tuple[int, ...] = (1, 10, 50)
    repeats: int = 3
    radii: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.5)
    sanity: bool = True
    also: tuple[Attack, ...] = ()
    positions: tuple[Position, ...] = ("after", "before")

    def __post_init__(self) -> None:
        _among("protocols", self.protocols, "paper", "adaptive")
        _among("positions", self.positions, "after", "before")
        if self.repeats < 1 or any(r < 1 for r in self.eot) or any(r <= 0 for r in self.radii):
            raise ArgumentError(
                expected="repeats >= 1, eot >= 1 and radii > 0",
                got=repr(self),
                remedy="Leave them at their defaults.",
            )

    @property
    def draws(self) -> int:
        """Draws averaged where not all that a model can draw is known."""
        return max(self.eot, default=1)


def _among(name: str, given: tuple[str, ...], *known: str) -> None:
    if not given or not set(given) <= set(known):
        raise ArgumentError(
            expected=f"{name} out of {' and '.join(known)}",
            got=repr(given),
            remedy="Name one or both.",
        )


@dataclass(frozen=True, eq=False)
class View:
    """A subject as an attacker at one position meets it.

    Attributes:
        subject: with the model that he attacks.
        batch: the images that he changes.
        position: "after" or "before" the move of a defence that moves images, else empty.
        through: models whose gradients he follows besides, by name.
        classes: number of classes.
        first: whether this is the first view of the first subject.
    """

    subject: Subject
    batch: LabelledImages
    position: str
    through: dict[str, nn.Module]
    classes: int
    first: bool = False

    @property
    def randomised(self) -> bool:
        """Whether the model draws."""
        return is_randomised(self.subject.model)

    @property
    def finite(self) -> bool:
        """Whether everything that it can draw is known; a deterministic model draws nothing."""
        return not self.randomised or bool(described(self.subject.model).odds())


def rows_of(view: View, plan: Plan) -> Iterator[Row]:
    """The rows of one view, in table order."""
    claimed = view.position != "before"
    if ("paper" in plan.protocols and claimed) or view.first:
        repeats = plan.repeats if view.randomised else 1
        yield _row(view, Kind.ATTACK, "paper", plan.attack, repeats=repeats)
    if "adaptive" in plan.protocols:
        yield from _adaptive(view, plan)
    if claimed:
        yield from _curve(view, plan)
    if plan.sanity:
        yield from _sanity(view, plan)


def clean_row(view: View, plan: Plan) -> Row:
    """Accuracy without an attack; of a defence that moves images on what it hands on."""
    repeats = plan.repeats if view.randomised else 1
    return Row(view.subject, Kind.CLEAN, "none", None, repeats, batch=view.batch)


def _row(
    view: View,
    kind: Kind,
    protocol: Literal["paper", "adaptive", "sanity"],
    attack: Attack,
    *,
    through: str = "",
    repeats: int = 1,
) -> Row:
    return Row(
        view.subject,
        kind,
        protocol,
        attack,
        repeats,
        through=through,
        source=view.through.get(through),
        position=view.position,
        batch=view.batch,
    )


def _adaptive(view: View, plan: Plan) -> Iterator[Row]:
    norm, eps = plan.attack.norm, plan.attack.eps
    own = [knowing(attack, plan.draws) for attack in (plan.attack, *plan.also)]
    direct = plan.tier.direct(
        norm, eps, view.classes, plan.draws, randomised=view.randomised, finite=view.finite
    )
    white = plan.tier.gradients(norm, eps, view.classes, plan.draws)
    repeats = 1 if view.finite else plan.repeats
    for attack in dict.fromkeys([*own, *direct]):
        yield _row(view, Kind.ATTACK, "adaptive", attack, repeats=repeats)
    for draws in [] if view.finite else [d for d in plan.eot if d != plan.draws]:
        for attack in [*own[:1], *white[:1]]:
            fewer = replace(attack, eot=draws)
            yield _row(view, Kind.ATTACK, "adaptive", fewer, repeats=repeats)
    following = [a for a in own if a.knowledge == "white-box" or norm == "l0"]
    for name in view.through:
        for attack in dict.fromkeys([*following, *white]):
            yield _row(view, Kind.ATTACK, "adaptive", attack, through=name)
    models = fixed_models(view.subject.model)
    if models:
        alone = replace(view, subject=replace(view.subject, model=models[0]))
        row = _row(alone, Kind.PROGRAM, "adaptive", knowing(plan.attack, plan.draws))
        yield replace(row, program=0)


def _white(view: View, plan: Plan, eps: float) -> list[PGD]:
    """PGD in the plan's norm, where it has one; L0 is left to the attacks made for it."""
    norm = plan.attack.norm
    if norm not in PGD.norms or math.isinf(eps):
        return []
    return [knowing(plan.tier.white(norm, eps), plan.draws)]


def _curve(view: View, plan: Plan) -> Iterator[Row]:
    for eps in _radii(plan):
        yield _row(view, Kind.CURVE, "paper", replace(plan.attack, eps=eps))
        if "adaptive" in plan.protocols:
            for white in _white(view, plan, eps):
                yield _row(view, Kind.CURVE, "adaptive", white)


def _radii(plan: Plan) -> list[float]:
    """The radii of the curve: whole numbers of pixels for L0, none for an unbounded attack."""
    norm, eps = plan.attack.norm, plan.attack.eps
    if math.isinf(eps):
        return []
    radii = [eps * factor for factor in plan.radii]
    if norm == "l0":
        radii = [float(max(1, round(radius))) for radius in radii]
    return sorted({min(radius, 1.0) if norm == "linf" else radius for radius in radii})


def _sanity(view: View, plan: Plan) -> Iterator[Row]:
    norm, eps = plan.attack.norm, plan.attack.eps
    if norm in RandomNoise.norms:
        yield _row(view, Kind.NOISE, "sanity", RandomNoise(norm=norm, eps=eps))
    unbounded = knowing(plan.tier.white("linf", 1.0), plan.draws)
    for name in ("", *view.through):
        yield _row(view, Kind.UNBOUNDED, "sanity", unbounded, through=name)
    for white in _white(view, plan, eps):
        fewer = replace(white, steps=max(1, plan.tier.steps // 4))
        yield _row(view, Kind.FEWER, "sanity", fewer)


def through_of(subject: Subject, first: Subject) -> dict[str, nn.Module]:
    """Models whose gradients an attacker on the subject follows besides its own."""
    found = described(subject.model).surrogates()
    if subject.whose[0] is Role.DEFENDED and first.model is not subject.model:
        found.setdefault("undefended", first.model)
    for index, inner in enumerate(stages_of(subject.model), 1):
        found.setdefault(f"inner {index}", inner)
    return {name: model for name, model in found.items() if model is not subject.model}
