"""Layers patched one by one, each an item of an engine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from suture.attacks.aigent.tail import Tail
from suture.engine import Engine, Handle
from suture.repairs.base import OnProgress
from suture.repairs.weight_patch.phase_free import smallest_patch
from suture.repairs.weight_patch.points import Point
from suture.repairs.weight_patch.program import LayerPatch, Wish, patch_layer
from suture.solvers import SolverStatus


@dataclass(frozen=True, eq=False)
class LayerTask:
    """A network's last layers and what is asked of them: what patching any one layer needs."""

    tail: Tail
    points: list[Point]
    wish: Wish

    def __call__(self, layer: int) -> LayerPatch:
        solve = smallest_patch if self.wish.phases == "free" else patch_layer
        return solve(self.tail, layer, self.points, self.wish)


@dataclass(frozen=True, eq=False)
class Patcher:
    """Patches layers over an engine, each layer an item."""

    engine: Engine
    work: str
    tell: OnProgress

    def __call__(
        self, task: LayerTask, layers: list[int], done: int, total: int
    ) -> list[LayerPatch]:
        """Patches of the layers, ``done`` of a ``total`` being there already."""
        made: list[LayerPatch] = []
        self.tell("layers", done, total)
        with self.engine.shared(task) as shared:
            for patch in self.engine.keep(
                f"layers {layers}",
                partial(_call, shared),
                layers,
                work=self.work,
                pack=_to_plain,
                unpack=_from_plain,
            ):
                made.append(patch)
                self.tell("layers", done + len(made), total)
        return made


def _call(task: Handle[LayerTask], layer: int) -> LayerPatch:
    return task.get()(layer)


def _to_plain(patch: LayerPatch) -> dict[str, Any]:
    return vars(patch) | {"status": patch.status.name, "notes": list(patch.notes)}


def _from_plain(value: dict[str, Any]) -> LayerPatch:
    parsed = {"status": SolverStatus[value["status"]], "notes": tuple(value["notes"])}
    return LayerPatch(**(value | parsed))
