"""A training's points, written as a history by whoever started it."""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from suture.engine import plain
from suture.errors import BundleError
from suture.storage import write_bytes
from suture.training.config import TrainConfig
from suture.training.history import History, fill
from suture.training.result import EpochCurve
from suture.training.retention import Retention

WITHIN = "within-epoch.safetensors"
"""A point between two batches; gone when its epoch is over."""


@dataclass(frozen=True)
class HistoryPlace:
    """Where the history goes, and which epochs stay in it."""

    folder: Path
    retention: Retention


@dataclass
class Recording:
    """A history that grows by the points of its training."""

    history: History

    @staticmethod
    def of(place: HistoryPlace, config: TrainConfig, seed: int, data: str) -> Recording:
        """An empty one; nothing is written before the first point."""
        return Recording(History(place.folder, repr(config), seed, data, retention=place.retention))

    def keep(self, point: dict[str, Any]) -> None:
        """Write an epoch that is over, or where one stands."""
        folder, epochs = self.history.folder, len(point["curves"])
        if point["within"]["batches"]:
            named = {key: point[key] for key in ("weights", "optimiser", "within")}
            write_bytes(folder / WITHIN, plain.to_bytes({"epochs": epochs, **named}))
            return
        curve = EpochCurve(**point["curves"][-1])
        self.history = self.history.with_epoch(
            curve, point["weights"], point["optimiser"], finished=point["finished"]
        )
        (folder / WITHIN).unlink(missing_ok=True)

    def restored(self, model: nn.Module) -> dict[str, Any] | None:
        """The point to go on from; ``None`` where the folder has none.

        Raises:
            BundleError: the history was altered, or is that of another run or architecture.
        """
        folder = self.history.folder
        point = None
        if History.exists(folder):
            point = self._last(History.open(folder), model)
        within = self._within()
        epochs = 0 if point is None else len(point["curves"])
        if within is None or within.pop("epochs") != epochs:
            return point
        fill(copy.deepcopy(model), within["weights"], folder)
        return (point or {"curves": [], "best": None, "finished": False}) | within

    def _last(self, found: History, model: nn.Module) -> dict[str, Any] | None:
        for name in ("config", "seed", "data"):
            if getattr(found, name) != getattr(self.history, name):
                raise _other_run(found, name, getattr(self.history, name))
        if not found.curves:
            return None
        self.history = replace(found, retention=self.history.retention)
        weights = found.state(found.epochs[-1])
        fill(copy.deepcopy(model), weights, found.folder)
        return {
            "curves": [vars(curve) for curve in found.curves],
            "best": found.state(found.best_epoch),
            "weights": weights,
            "optimiser": {} if found.optimiser is None else found.read(found.optimiser),
            "within": {},
            "finished": found.finished,
        }

    def _within(self) -> dict[str, Any] | None:
        with suppress(OSError, BundleError):  # a point that is not whole counts for nothing
            content = plain.from_bytes((self.history.folder / WITHIN).read_bytes())
            return dict(content)
        return None


def _other_run(found: History, name: str, wanted: object) -> BundleError:
    return BundleError(
        expected=f"the history of this very run in {found.folder}: {name} {wanted}",
        got=f"{name} {getattr(found, name)}",
        remedy="Resume with the same config, seed and data, or choose another folder.",
    )
