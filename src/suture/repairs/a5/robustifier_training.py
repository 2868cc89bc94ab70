"""A5/R: a robustifier trained for a classifier that stays as it is (section 3, Eq. 7)."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from suture.attacks import PGD
from suture.data.splits import validation_count
from suture.errors import ArgumentError
from suture.models import identity
from suture.repairs.a5.certifying import Vouched, vouched
from suture.repairs.a5.defence import Defence
from suture.repairs.a5.robustifier import (
    Body,
    RobustifiedClassifier,
    build_robustifier,
    defended,
)
from suture.repairs.a5.trainees import RobustifiedTrainee
from suture.repairs.base import REPAIRS, Repair
from suture.repairs.certified_training.curves import Trained
from suture.repairs.certified_training.method import (
    check_radius,
    held_out,
    run_training,
    status_of,
    trace_of,
)
from suture.repairs.certified_training.ramp import Ramp
from suture.repairs.certified_training.schedule import Schedule
from suture.repairs.context import Context
from suture.repairs.result import RepairResult
from suture.rng import Stream
from suture.types import Batch, LabelledImages

AT_ONCE = Schedule(ramp=Ramp(start=1, length=0))
"""The full radius from the first step on: the classifier withstands it already."""


@REPAIRS.add("a5-robustifier")
@dataclass(frozen=True, kw_only=True)
class A5Robustifier(Repair):
    """Train R so that ``x + δ_D(R(x))`` withstands attacks on the given classifier.

    R sees no labels and knows no class: it moves what it is shown, also what is classified wrong.
    It can be deployed alone (``suture export --part robustifier``).

    Args:
        eps: ε_A^R, the L∞ radius of the attack to be withstood after robustification.
        defence: ε_D and its norm.
        body: the robustifier, "mnist" or "cifar" as in the paper, or "small".
        schedule: how R is trained.
        certificates: validation images whose certificates are made.
        before: not in the paper: R also learns to withstand an attacker of this L∞ radius who
            changes what R reads, by PGD through R and C in every batch (nothing is certified of
            him); epochs are judged under him too. 0 for none.
        before_steps: of that PGD.

    Raises:
        ArgumentError: a value out of range.
    """

    eps: float = 0.3
    defence: Defence = Defence()  # noqa: RUF009 - frozen
    body: Body = "mnist"
    schedule: Schedule = AT_ONCE
    certificates: int = 20
    before: float = 0.0
    before_steps: int = 5

    def __post_init__(self) -> None:
        check_radius("eps", self.eps)
        check_certificates(self.certificates)
        adversary(self.before, self.before_steps)

    @property
    def trains_together(self) -> bool:
        """Processes share its batches."""
        return True

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        context = context.child("a5-r")
        both = self.untrained(model, data, context.stream)
        found = self.train(both, data, context, model)
        made = certify_held_out(both, data, self.schedule, self.eps, self.certificates, "R")
        both.train(model.training)
        facts: dict[str, Any] = {"recipe": "R", "eps": self.eps, "defence": asdict(self.defence)}
        facts["certificates"] = counted(made, self.certificates, data, self.schedule)
        return RepairResult(
            both,
            status_of(found),
            facts | trace_of(found),
            made.certificates,
            promise=made.promise,
        )

    def untrained(
        self, model: nn.Module, data: LabelledImages, stream: Stream
    ) -> RobustifiedClassifier:
        """A copy of the classifier behind a new robustifier."""
        seed = stream.child("weights").key
        robustifier = build_robustifier(self.body, data.shape, self.defence, seed=seed)
        return defended(robustifier.to(data.device), copy.deepcopy(model))

    def train(
        self,
        both: RobustifiedClassifier,
        data: LabelledImages,
        context: Context,
        base: nn.Module,
    ) -> Trained:
        """Train the robustifier of ``both`` in place; ``base`` says which classifier it is for."""
        trainee = RobustifiedTrainee(
            both,
            data.shape,
            self.eps,
            together=False,
            fusion=self.schedule.fusion,
            before=adversary(self.before, self.before_steps),
        )
        work = f"{self!r} {context.stream.key} {identity(base, data)}"
        return run_training(trainee, data, self.schedule, self.eps, "robustifier", context, work)


def certify_held_out(
    both: RobustifiedClassifier,
    data: LabelledImages,
    schedule: Schedule,
    eps: float,
    count: int,
    recipe: str,
) -> Vouched:
    """Certificates of the first validation images, as R would store them, and their promise."""
    if not count:
        return Vouched()
    _, validation = held_out(data, schedule.validation)
    chosen = validation[:count]
    with torch.no_grad():
        stored = both.eval().robustifier(chosen.images)
    return vouched(both.classifier, Batch(stored, chosen.labels), eps, repair=f"A5/{recipe}")


def counted(made: Vouched, asked: int, data: LabelledImages, schedule: Schedule) -> dict[str, int]:
    """How many certificates there are, and how many images were tried."""
    held = validation_count(len(data), schedule.validation)
    return {"made": len(made.certificates), "of": min(asked, held)}


def adversary(eps: float, steps: int) -> PGD | None:
    """Who changes what R reads while it is trained; ``None`` for a radius of 0.

    Raises:
        ArgumentError: a radius out of [0, 1].
    """
    if not eps:
        return None
    check_radius("before", eps)
    return PGD(eps=eps, steps=steps)


def check_certificates(count: int) -> None:
    """Raise ``ArgumentError`` for a negative number."""
    if count < 0:
        raise ArgumentError(
            expected="certificates >= 0",
            got=f"certificates={count!r}",
            remedy="0 makes none.",
        )
