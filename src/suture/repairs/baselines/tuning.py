"""What the baselines share with DARE: images, held-out images, settings, and the limit."""

from __future__ import annotations

import copy
import time
from abc import abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from suture.errors import ArgumentError
from suture.repairs.base import Repair
from suture.repairs.context import Context
from suture.repairs.result import RepairResult, Status
from suture.repairs.tuning import Fit, Grid, halves, search
from suture.types import LabelledImages


@dataclass(frozen=True, kw_only=True)
class Tuning(Repair):
    """A repair that goes on training all of a classifier's parameters.

    Args:
        held_out: share of the images that chooses the setting and guards the accuracy.
        samples: images used, at most; ``None`` for all.
        grid: which settings are tried, and the limit of lost accuracy; DARE's own.
    """

    held_out: float = 0.25
    samples: int | None = None
    grid: Grid = field(default_factory=Grid)

    def __post_init__(self) -> None:
        for expected, holds in self._checks().items():
            if not holds:
                raise ArgumentError(
                    expected=expected, got=repr(self), remedy="See the guide on baselines."
                )

    def _checks(self) -> dict[str, bool]:
        """What must hold, in words."""
        return {
            "held_out in (0, 1)": 0 < self.held_out < 1,
            "samples >= 20, or None": self.samples is None or self.samples >= 20,
        }

    @abstractmethod
    def fit(
        self,
        model: nn.Module,
        looked: LabelledImages,
        held: LabelledImages,
        context: Context,
    ) -> tuple[Fit | None, dict[str, Any]]:
        """What is tuned, and facts for the trace; ``None`` if there is nothing to tune on."""

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        started = time.perf_counter()
        stream, work = context.stream, context.work(self, model, data)
        model = copy.deepcopy(model).eval()
        if self.samples is not None and self.samples < len(data):
            data = halves(data, self.samples / len(data), stream.child("samples"))[1]
        looked, held = halves(data, self.held_out, stream.child("held out"))
        fit, facts = self.fit(model, looked, held, context)
        made = time.perf_counter()
        facts = {"samples": len(looked), **facts}
        if fit is None:
            return RepairResult(model, Status.UNCHANGED, facts | _times(started, made))
        found = search(
            model,
            fit,
            held,
            self.grid,
            stream=stream.child("tuning"),
            engine=context.engine,
            work=work,
            batch_size=context.batch_size,
            on_done=partial(context.tell, "settings"),
        )
        facts |= {"search": found.trace, **_times(started, made)}
        return RepairResult(found.model, found.status, facts)


def _times(started: float, made: float) -> dict[str, Any]:
    now = time.perf_counter()
    stages = {"generation": round(made - started, 3), "tuning": round(now - made, 3)}
    return {"stages": stages, "seconds": round(now - started, 3)}
