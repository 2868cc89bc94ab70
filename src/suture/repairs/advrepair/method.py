"""AdvRepair: patches that provably repair what surrounds adversarial inputs (Chi et al. 2024).

Around every image that the attack fools lies a ball; its patch is added to the logits of all inputs
in it, and trained until a bound proves that the class stays. Other inputs borrow the patches of
similar images.

Inside a ball the proof is easy, as a constant patch shows. What it is worth outside depends on who
allocates: read the rows under both allocations, and the constant patch beside them.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from suture.errors import ArgumentError
from suture.repairs.advrepair.regions import Regions, balls
from suture.repairs.advrepair.repairing import RegionStatus, patch_regions
from suture.repairs.advrepair.settings import PatchSettings
from suture.repairs.base import REPAIRS, Repair
from suture.repairs.context import Context
from suture.repairs.fooling import FooledImages, fooled_images
from suture.repairs.result import RepairResult, Status
from suture.types import Batch, LabelledImages


@REPAIRS.add("advrepair")
@dataclass(frozen=True, kw_only=True)
class AdvRepair(PatchSettings, Repair):
    """Repair by provable patches."""

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        started = time.monotonic()
        batch, found, tried = self.fooled(model, data, context)
        spent = time.monotonic() - started
        facts = {"samples": len(found), "tried": tried, "attack_seconds": round(spent, 3)}
        if batch is None:
            return RepairResult(copy.deepcopy(model), Status.UNCHANGED, facts)
        result = self.of_fooled(model, FooledImages(batch, found, tried), context)
        return replace(result, trace=facts | result.trace)

    def of_fooled(self, model: nn.Module, found: FooledImages, context: Context) -> RepairResult:
        """Repair the balls around images that somebody else has chosen; at least one."""
        assert found.clean is not None, "there is something to repair"
        with torch.no_grad():
            classes = int(model(found.clean.images[:1]).shape[1])
        regions = balls(found.clean, self.attack.eps, classes)
        count = len(found.images)
        return self.of_regions(model, regions, found.images, torch.arange(count), context)

    def of_regions(
        self,
        model: nn.Module,
        regions: Regions,
        wrong: Tensor,
        region: Tensor,
        context: Context | None = None,
    ) -> RepairResult:
        """Repair regions that somebody else has chosen: balls, or the boxes of a property.

        Args:
            model: classifier; not changed.
            regions: where it must behave, ``balls(...)`` or ``of_property(...)``.
            wrong: known counterexamples ``(n, *in_shape)``; a region whose proof fails counts as
                repaired when all of its own behave.
            region: int64 ``(n,)``, where each of them lies.
            context: ``Context.of(seed)``; its engine gets patches and proofs in pieces.

        Raises:
            ArgumentError: label guidance, or an allocation outside, for regions without labels.
        """
        if regions.labels is None and (self.guidance != "property" or self.at is not None):
            raise ArgumentError(
                expected='guidance="property" and at=None for properties that are not about labels',
                got=f"guidance={self.guidance!r}, at={self.at!r}",
                remedy="Leave both at their defaults.",
            )
        started, context = time.monotonic(), context or Context.of()
        made = patch_regions(model, regions, self, context)
        states = made.judged(wrong, region, context.batch_size)
        trace = made.trace | {
            "seconds": round(time.monotonic() - started, 3),
            "regions": [state.value for state in states],
            **{state.value: sum(s is state for s in states) for state in RegionStatus},
        }
        made.model.train(model.training)
        status = _status(trace, len(states))
        return RepairResult(made.model, status, trace, made.certificates, promise=made.promise)

    def fooled(
        self,
        model: nn.Module,
        data: LabelledImages,
        context: Context,
    ) -> tuple[Batch | None, Tensor, int]:
        """The first ``samples`` images, in an order drawn by the seed, that the model gets right
        and the attack fools (``None``: not one); the adversarial images; how many were tried."""
        found = fooled_images(self.attack, self.samples, model, data, context)
        return found.clean, found.images, found.tried


def _status(trace: dict[str, Any], regions: int) -> Status:
    """By regions: all proved or repaired, some, or none."""
    if trace[RegionStatus.FAILED.value] == 0:
        return Status.REPAIRED
    return Status.PARTLY if trace[RegionStatus.FAILED.value] < regions else Status.UNCHANGED
