"""A5/RC: robustifier and classifier trained together (section 3, Eq. 8 and 9)."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from suture.errors import ArgumentError
from suture.models import identity
from suture.repairs.a5.defence import Defence
from suture.repairs.a5.robustifier import (
    Body,
    RobustifiedClassifier,
)
from suture.repairs.a5.robustifier_training import (
    AT_ONCE,
    A5Robustifier,
    adversary,
    certify_held_out,
    check_certificates,
    counted,
)
from suture.repairs.a5.trainees import RobustifiedTrainee
from suture.repairs.base import REPAIRS, Repair
from suture.repairs.certified_training.method import check_radius, run_training, status_of, trace_of
from suture.repairs.certified_training.schedule import Schedule
from suture.repairs.context import Context
from suture.repairs.result import RepairResult
from suture.types import LabelledImages


@REPAIRS.add("a5-cotraining")
@dataclass(frozen=True, kw_only=True)
class A5CoTraining(Repair):
    """First R alone, then R and C together; a model that A5/R has made keeps its robustifier.

    Best from a classifier that was trained for a smaller attack than ε_A (Table 5): it gives up
    less clean accuracy, and adapts. Where no epoch of training both certifies more of the held-out
    images than R before the classifier as it was, that pair is kept (best epoch 0).

    Args:
        eps: ε_A^R, the L∞ radius of the attack while R is trained alone.
        eps_together: ε_A^C, the same while both are trained; 0 for ``eps``.
        defence: ε_D and its norm.
        body: the robustifier, "mnist" or "cifar" as in the paper, or "small".
        alone: how R is trained; not used where the model has a robustifier.
        schedule: how both are trained.
        certificates: validation images whose certificates are made.
        before, before_steps: as for ``A5Robustifier``, in both trainings.

    Raises:
        ArgumentError: a value out of range; a robustifier that was trained for another defence.
    """

    eps: float = 0.3
    eps_together: float = 0.0
    defence: Defence = Defence()  # noqa: RUF009 - frozen
    body: Body = "mnist"
    alone: Schedule = AT_ONCE
    schedule: Schedule = AT_ONCE
    certificates: int = 20
    before: float = 0.0
    before_steps: int = 5

    def __post_init__(self) -> None:
        check_radius("eps", self.eps)
        check_radius("eps_together", self.eps_together or self.eps)
        check_certificates(self.certificates)
        adversary(self.before, self.before_steps)

    @property
    def trains_together(self) -> bool:
        """Processes share its batches."""
        return True

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        context = context.child("a5-rc")
        facts: dict[str, Any] = {"recipe": "RC", "eps": self.eps, "defence": asdict(self.defence)}
        if isinstance(model, RobustifiedClassifier):
            self._check(model.robustifier.defence)
            both = copy.deepcopy(model)
        else:
            both = self._first().untrained(model, data, context.stream)
            first = self._first().train(both, data, context, model)
            facts["alone"] = trace_of(first)
        eps = self.eps_together or self.eps
        trainee = RobustifiedTrainee(
            both,
            data.shape,
            eps,
            together=True,
            fusion=self.schedule.fusion,
            before=adversary(self.before, self.before_steps),
        )
        work = f"{self!r} {context.stream.key} {identity(model, data)}"
        found = run_training(
            trainee,
            data,
            self.schedule,
            eps,
            "both",
            context,
            work,
            from_start=True,
        )
        made = certify_held_out(both, data, self.schedule, eps, self.certificates, "RC")
        facts["certificates"] = counted(made, self.certificates, data, self.schedule)
        both.train(model.training)
        return RepairResult(
            both,
            status_of(found),
            facts | trace_of(found),
            made.certificates,
            promise=made.promise,
        )

    def _check(self, given: Defence) -> None:
        """The robustifier moves images in a ball of its own, whatever is said here."""
        if given != self.defence:
            raise ArgumentError(
                expected=f"the defence of the robustifier that the model has, {given!r}",
                got=repr(self.defence),
                remedy=f"Say --defence.eps {given.eps:g} --defence.norm {given.norm}, or start "
                "from a classifier without a robustifier.",
            )

    def _first(self) -> A5Robustifier:
        return A5Robustifier(
            eps=self.eps,
            defence=self.defence,
            body=self.body,
            schedule=self.alone,
            before=self.before,
            before_steps=self.before_steps,
        )
