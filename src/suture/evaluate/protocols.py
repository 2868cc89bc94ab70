"""What is measured: the paper's protocol, and an attacker who knows the defence.

*paper*: as the authors measured it; every query and the final decision draw afresh, the search
stops at the first misclassified query.

*adaptive*: the attacker knows the defence. Against a randomised model: the same search without
early acceptance and with logits averaged over R draws (expectation over transformation; the
number of candidates stays, so it costs R times the queries), and white-box PGD with the same
averages. Then, per image, the attacker keeps whichever candidate fools the largest share of the
programs (known to him), and the final decision draws afresh. For a deterministic model this is
the usual worst case per image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor, nn

from suture.attacks import PGD, Attack, RandomNoise, Square
from suture.attacks.against.knowing import knowing
from suture.engine import Engine, Inline
from suture.errors import ArgumentError
from suture.evaluate.health import signs
from suture.evaluate.pieces import measure_all
from suture.evaluate.records import Kind, Record, Role
from suture.evaluate.rows import Row, Subject, fixed_models, fresh_logits, restated
from suture.evaluate.sanity import with_warnings
from suture.evaluate.strongest import strongest, transferred
from suture.rng import Stream
from suture.types import Batch, check_classes, is_randomised

OnRow = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Plan:
    """Which rows to measure.

    Args:
        attack: the attack of the paper protocol; its norm and radius hold for all rows.
        protocols: "paper", "adaptive", or both.
        eot: draws to average for the adaptive attacker of a randomised model.
        pgd_steps: steps of the white-box rows.
        repeats: repetitions of rows on a randomised model, each with its own draws.
        radii: multiples of the attack's radius for the accuracy-against-radius curve; empty for
            none.
        sanity: measure random noise, an unbounded radius and PGD with fewer steps, and look for
            signs of gradient masking in the model itself.
        also: further attacks for the adaptive protocol, with radii of their own.
        tier: how much is spent, where a command has tiers; for the records.
    """

    attack: Attack = field(default_factory=Square)
    protocols: tuple[Literal["paper", "adaptive"], ...] = ("paper", "adaptive")
    eot: tuple[int, ...] = (1, 10, 50)
    pgd_steps: int = 40
    repeats: int = 3
    radii: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.5)
    sanity: bool = True
    also: tuple[Attack, ...] = ()
    tier: str = ""

    def __post_init__(self) -> None:
        known = {"paper", "adaptive"}
        if not self.protocols or not set(self.protocols) <= known:
            raise ArgumentError(
                expected='protocols out of "paper" and "adaptive"',
                got=repr(self.protocols),
                remedy="Name one or both.",
            )
        if self.repeats < 1 or any(r < 1 for r in self.eot) or any(r <= 0 for r in self.radii):
            raise ArgumentError(
                expected="repeats >= 1, eot >= 1 and radii > 0",
                got=repr(self),
                remedy="Leave them at their defaults.",
            )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Records in table order, and the undefended model's attacked images for pictures."""

    records: list[Record]
    attacked: Tensor


def evaluate(
    subjects: list[Subject],
    batch: Batch,
    plan: Plan,
    *,
    data: str,
    seed: int = 0,
    batch_size: int = 256,
    engine: Engine | None = None,
    on_row: OnRow | None = None,
) -> Evaluation:
    """Measure every row of the plan on every subject, with the same images and seeds.

    Args:
        subjects: the undefended classifier first, then the defended one if there is one.
        batch: held-out images.
        data: name of the data set, for the records.
        seed: root seed of all rows.
        batch_size: images attacked at a time; a matter of memory, not of results.
        engine: spreads rows and images; ``None`` works here, with this process' threads.
        on_row: called as ``on_row(label, pieces finished, pieces in all)``.

    Raises:
        ArgumentError: two subjects of one role and one name.
        DataError: labels that a model has no class for.
    """
    _all_different(subjects)
    engine = engine or Inline(threads_per_item=None)
    for subject in subjects:
        few = fresh_logits(subject.model, batch.images[:1], Stream(seed))
        check_classes(batch.labels, few.shape[1])
    jobs = [(row, repeat) for row in _rows(subjects, plan) for repeat in range(row.repeats)]
    # Rows may ask for the same measurement: an attack is adaptive and on the curve as well.
    keys = [(id(row.subject.model), row.attack, repeat) for row, repeat in jobs]
    needed: dict[Any, tuple[Row, int]] = {}
    for key, job in zip(keys, jobs, strict=True):
        needed.setdefault(key, job)
    found = measure_all(
        list(needed.values()),
        batch,
        data,
        seed,
        engine=engine,
        batch_size=batch_size,
        on_row=on_row,
    )
    known = dict(zip(needed, found, strict=True))
    measured = [restated(known[key], row) for key, (row, _) in zip(keys, jobs, strict=True)]
    first = next(m for m in measured if m.record.metric == "robust accuracy")
    for subject in subjects:
        if subject is not subjects[0]:
            measured.append(transferred(subject, first, batch, seed))
        if "adaptive" in plan.protocols:
            measured.extend(strongest(subject, measured, batch, plan.repeats, seed, engine))
    records = with_warnings([replace(m.record, tier=plan.tier) for m in measured])
    if plan.sanity:
        records = [_with_signs(record, subjects, batch) for record in records]
    return Evaluation(records, first.images)


def _all_different(subjects: list[Subject]) -> None:
    names = [f"{role} {name!r}" for role, name in (subject.whose for subject in subjects)]
    if len(set(names)) < len(names):
        raise ArgumentError(
            expected="subjects that differ in role or name",
            got=", ".join(names),
            remedy='Tell them apart: Subject("defended", model, reference, name="A5").',
        )


def _with_signs(record: Record, subjects: list[Subject], batch: Batch) -> Record:
    """What the model itself shows goes onto its first clean row."""
    if record.metric != "clean accuracy" or record.repeat:
        return record
    model = next(s.model for s in subjects if s.whose == record.whose)
    found = signs(model, batch)
    if is_randomised(model) and record.role is Role.DEFENDED:
        # A defence that says how it draws is measured by the rows that average.
        found = [sentence for sentence in found if not sentence.startswith("randomness")]
    return replace(record, warnings=[*record.warnings, *found])


def _rows(subjects: list[Subject], plan: Plan) -> Iterator[Row]:
    for subject in subjects:
        repeats = plan.repeats if is_randomised(subject.model) else 1
        yield Row(subject, Kind.CLEAN, "none", None, repeats)
        if "paper" in plan.protocols or subject is subjects[0]:
            yield Row(subject, Kind.ATTACK, "paper", plan.attack, repeats)
        if "adaptive" in plan.protocols:
            yield from _adaptive(subject, plan, repeats)
        yield from _curve(subject, plan)
        if plan.sanity:
            yield from _sanity(subject, plan)


def _adaptive(subject: Subject, plan: Plan, repeats: int) -> Iterator[Row]:
    white = _white_box(plan, plan.attack.eps)
    if not is_randomised(subject.model):
        for attack in (*white, plan.attack, *plan.also):
            yield Row(subject, Kind.ATTACK, "adaptive", attack)
        return
    for extra in plan.also:
        draws = _draws(subject.model, plan)
        attack = knowing(extra, draws)
        yield Row(subject, Kind.ATTACK, "adaptive", attack, 1, draws)
    for draws in plan.eot:
        for attack in (knowing(plan.attack, draws), *_white_box(plan, plan.attack.eps, draws)):
            yield Row(subject, Kind.ATTACK, "adaptive", attack, repeats, draws)
    models = fixed_models(subject.model)
    if models:
        fixed = replace(subject, model=models[0])
        yield Row(fixed, Kind.PROGRAM, "adaptive", plan.attack, program=0)


def _white_box(plan: Plan, eps: float, draws: int = 1) -> list[PGD]:
    """PGD in the plan's norm, where it has one; L0 is left to the attacks made for it."""
    norm = plan.attack.norm
    if norm not in PGD.norms or math.isinf(eps):
        return []
    return [PGD(norm=norm, eps=eps, steps=plan.pgd_steps, eot=draws)]


def _draws(model: nn.Module, plan: Plan) -> int:
    """Draws averaged in side rows: the plan's number nearest to 10; 1 for a deterministic model."""
    return min(plan.eot, key=lambda draws: abs(draws - 10)) if is_randomised(model) else 1


def _curve(subject: Subject, plan: Plan) -> Iterator[Row]:
    for eps in _radii(plan):
        yield Row(subject, Kind.CURVE, "paper", replace(plan.attack, eps=eps))
        if "adaptive" in plan.protocols:
            draws = _draws(subject.model, plan)
            for white in _white_box(plan, eps, draws):
                yield Row(subject, Kind.CURVE, "adaptive", white, draws=_said(subject.model, draws))


def _radii(plan: Plan) -> list[float]:
    """The radii of the curve: whole numbers of pixels for L0, none for an unbounded attack."""
    norm, eps = plan.attack.norm, plan.attack.eps
    if math.isinf(eps):
        return []
    radii = [eps * factor for factor in plan.radii]
    if norm == "l0":
        radii = [float(max(1, round(radius))) for radius in radii]
    return sorted({min(radius, 1.0) if norm == "linf" else radius for radius in radii})


def _sanity(subject: Subject, plan: Plan) -> Iterator[Row]:
    norm, eps, draws = plan.attack.norm, plan.attack.eps, _draws(subject.model, plan)
    if norm in RandomNoise.norms:
        yield Row(subject, Kind.NOISE, "sanity", RandomNoise(norm=norm, eps=eps))
    unbounded = PGD(norm="linf", eps=1.0, steps=plan.pgd_steps, eot=draws)
    yield Row(subject, Kind.UNBOUNDED, "sanity", unbounded, draws=_said(subject.model, draws))
    few = max(1, plan.pgd_steps // 4)
    for white in _white_box(plan, eps, draws):
        yield Row(
            subject,
            Kind.FEWER,
            "sanity",
            replace(white, steps=few),
            draws=_said(subject.model, draws),
        )


def _said(model: nn.Module, draws: int) -> int | None:
    """Draws as a record has them: there are none on a deterministic model."""
    return draws if is_randomised(model) else None
