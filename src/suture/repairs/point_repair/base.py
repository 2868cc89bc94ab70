"""What repairs of single adversarial inputs share: where their inputs come from, how they end."""

from __future__ import annotations

import copy
import time
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from suture.attacks import PGD, Attack
from suture.certify import Certificate
from suture.errors import require
from suture.repairs.base import Repair
from suture.repairs.context import Context
from suture.repairs.fooling import FooledImages, fooled_images
from suture.repairs.result import RepairResult, Status
from suture.types import Batch, LabelledImages

Made = tuple[nn.Module, dict[str, Any], tuple[Certificate, ...]]


@dataclass(frozen=True, kw_only=True)
class PointRepair(Repair):
    """A repair of inputs that an attack made: they, and perhaps no others, are right afterwards.

    Args:
        attack: finds the adversarial inputs.
        samples: n, training images that are classified right and then fooled.
    """

    attack: Attack = field(default_factory=PGD)
    samples: int = 100

    def __post_init__(self) -> None:
        require(self._checks(), self, "See the guide on provable repair.")

    def _checks(self) -> dict[str, bool]:
        """What must hold, in words."""
        return {"samples >= 1": self.samples >= 1}

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        started = time.monotonic()
        found = fooled_images(self.attack, self.samples, model, data, context)
        facts: dict[str, Any] = {"samples": len(found.images), "tried": found.tried}
        facts["attack_seconds"] = round(time.monotonic() - started, 3)
        if found.clean is None:
            return RepairResult(copy.deepcopy(model), Status.UNCHANGED, facts)
        result = self.of_fooled(model, found, data, context)
        return replace(result, trace=facts | result.trace)

    def of_fooled(
        self, model: nn.Module, found: FooledImages, data: LabelledImages, context: Context
    ) -> RepairResult:
        """Repair inputs that somebody else has chosen.

        Args:
            model: classifier; not changed.
            found: at least one adversarial input, and the images that they were made from.
            data: training images, for what a method keeps or judges by.
            context: ``Context.of(seed)``.
        """
        started, wrong = time.monotonic(), found.wrong
        assert wrong is not None, "there is something to repair"
        repaired, facts, certificates = self._repaired(model, found, data, context)
        repaired.train(model.training)
        before = right(model, wrong, context.batch_size)
        after = right(repaired, wrong, context.batch_size)
        counts = {
            "to_repair": len(wrong),
            "right_before": int(before.sum()),
            "right_after": int(after.sum()),
        }
        counts |= facts | {"seconds": round(time.monotonic() - started, 3)}
        return RepairResult(repaired, _status(counts), counts, certificates)

    @abstractmethod
    def _repaired(
        self, model: nn.Module, found: FooledImages, data: LabelledImages, context: Context
    ) -> Made:
        """The repaired model, facts for the trace ("ended" a ``Status``'s name, where the counts
        do not say it), and certificates."""


def right(model: nn.Module, batch: Batch, batch_size: int) -> Tensor:
    """Bool ``(n,)``: which images the model gets right."""
    with torch.no_grad():
        said = [model(piece.images).argmax(1) for piece in batch.split(batch_size)]
    return torch.cat(said) == batch.labels


def _status(counts: dict[str, Any]) -> Status:
    """By plain forwards; where nothing changed, what the method says."""
    if counts["right_after"] == counts["to_repair"]:
        return Status.REPAIRED
    if counts["right_after"] > counts["right_before"]:
        return Status.PARTLY
    return Status[counts.get("ended", "UNCHANGED")]
