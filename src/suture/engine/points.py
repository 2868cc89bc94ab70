"""Points to resume a training from: the newest one is whole whenever the process is killed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from suture.engine.base import Engine


@dataclass
class Points:
    """Where the points of one training are kept: by an engine that belongs to a run.

    Two places take turns, so that one is whole while the other is written.

    Args:
        engine: keeps them.
        stage: names the training; unique within the run.
        work: says what is trained, on what, from which weights and seed.
    """

    engine: Engine
    stage: str
    work: str

    def __post_init__(self) -> None:
        found = [self.engine.recall(self._place(turn), self.work) for turn in range(2)]
        whole = [one for one in found if one is not None]
        newest = max(whole, key=lambda one: int(one["number"]), default=None)
        self.number = 0 if newest is None else int(newest["number"])
        self.last: Any = None if newest is None else newest["point"]
        """The newest point; ``None`` if there is none."""

    def keep(self, point: Any) -> None:
        """Keep plain data: dicts, lists, numbers, texts, tensors."""
        self.last, self.number = point, self.number + 1
        value = {"number": self.number, "point": point}
        before = self._place(self.number - 1)
        self.engine.note(self._place(self.number), value, work=self.work, instead_of=before)

    def _place(self, number: int) -> str:
        return f"{self.stage}, point {'odd' if number % 2 else 'even'}"
