"""What a repair works with: random numbers, an engine, who listens, who trains beside it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from suture.engine import Crew, Engine, Inline, Points
from suture.engine.share import Body
from suture.models import identity
from suture.rng import Stream, as_stream
from suture.types import LabelledImages, OnProgress, untold

if TYPE_CHECKING:
    from suture.repairs.base import Repair
    from suture.repairs.result import RepairResult

Sent = TypeVar("Sent", nn.Module, LabelledImages)


@dataclass(frozen=True, eq=False)
class Context:
    """What a repair works with.

    Attributes:
        stream: of all its random numbers.
        engine: gets the work in pieces.
        batch_size: images per forward; a matter of memory, not of results.
        tell: told about each stage.
        crew: the processes that share a training.
    """

    stream: Stream
    engine: Engine
    batch_size: int
    tell: OnProgress
    crew: Crew = Crew()  # noqa: RUF009 - frozen

    @staticmethod
    def of(
        generator: torch.Generator | Stream | int | None = None,
        engine: Engine | None = None,
        batch_size: int = 256,
        on_progress: OnProgress | None = None,
        crew: Crew = Crew(),  # noqa: B008 - frozen
    ) -> Context:
        """With the defaults for what is ``None``: seed 0, this process' threads, silence."""
        return Context(
            stream=as_stream(generator),
            engine=engine or Inline(threads_per_item=None),
            batch_size=batch_size,
            tell=on_progress or untold,
            crew=crew,
        )

    def child(self, name: str) -> Context:
        """The same with the sub-stream of that name."""
        return replace(self, stream=self.stream.child(name))

    def run(self, method: Repair, model: nn.Module, data: LabelledImages) -> RepairResult:
        """Another method, with all of this."""
        return method(
            model,
            data,
            generator=self.stream,
            engine=self.engine,
            batch_size=self.batch_size,
            on_progress=self.tell,
            processes=self.crew.processes if method.trains_together else 1,
            checkpoint_minutes=self.crew.minutes,
        )

    def trained(self, body: Body, stage: str, work: str, device: torch.device) -> Any:
        """``body(share)`` in each of the crew's processes: what the first one made, plain data.

        It goes on from the last point that a run has kept of this work.

        Args:
            body: can be sent to another process; what it holds is on the CPU where there are
                several (``sent``).
            stage: names the training; unique within the method.
            work: says what is trained, on what, from which weights.
            device: of the model and the images here.
        """
        points = Points(self.engine, stage, work)
        return self.engine.together(
            body,
            self.crew,
            device=str(device),
            point=points.last,
            tell=self.tell,
            keep=points.keep,
        )

    def sent(self, given: Sent) -> Sent:
        """The model or images as they go to the crew: on the CPU for other processes."""
        if self.crew.processes == 1:
            return given
        if isinstance(given, nn.Module):
            return copy.deepcopy(given).to("cpu")
        return given.to("cpu")

    def work(self, method: object, model: nn.Module, data: LabelledImages) -> str:
        """Names the work, so that pieces that a run has kept are found again."""
        return f"{method!r} {self.stream.key} {self.batch_size} {identity(model, data)}"
