"""REASSURE: a patch for the linear region of every given input (Fu & Li 2022)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from suture.attacks.aigent.network import LayeredNetwork
from suture.engine import Handle
from suture.models import identity
from suture.repairs.base import REPAIRS
from suture.repairs.context import Context
from suture.repairs.fooling import FooledImages
from suture.repairs.point_repair.base import Made, PointRepair, right
from suture.repairs.point_repair.linear_region import LinearRegion, linear_region, smallest_shift
from suture.repairs.point_repair.region_patched import RegionPatched, check_chain, describe_regions
from suture.solvers import SOLVERS, SolverStatus
from suture.types import Batch, LabelledImages

_DOUBLINGS = 24


@REPAIRS.add("reassure")
@dataclass(frozen=True, kw_only=True)
class REASSURE(PointRepair):
    """REASSURE (Fu & Li 2022): every given input's linear region gets a patch of its own, which is
    right on all of the region and nothing beside it.

    On a linear region the network is affine; the smallest affine patch that makes the label win by
    the margin on all of it is a linear program a class (``smallest_shift``). A support network
    switches it on there and off elsewhere.

    Args:
        margin: by how much the right logit must win.
        sharpness: γ to begin with: a patch reaches over its region's faces until some unit is
            1/γ beyond zero. Doubled until every given input is right (their code's n, 10).
        solver: "highs", "gurobi" or "scip".
        seconds: wall time a region may take, ``None`` for no limit.
    """

    margin: float = 0.05
    sharpness: float = 10.0
    solver: Literal["highs", "gurobi", "scip"] = "highs"
    seconds: float | None = None

    def _checks(self) -> dict[str, bool]:
        return super()._checks() | {
            "margin > 0": self.margin > 0,
            "sharpness > 0": self.sharpness > 0,
            f"a solver out of {', '.join(SOLVERS)}": self.solver in SOLVERS,
            "seconds > 0, or None": self.seconds is None or self.seconds > 0,
        }

    def _repaired(
        self, model: nn.Module, found: FooledImages, data: LabelledImages, context: Context
    ) -> Made:
        check_chain(model)
        wrong = found.wrong
        assert wrong is not None, "there is something to repair"
        regions, labels = self._regions(model, wrong, context)
        solved = [one.status.found for one in regions]
        facts: dict[str, Any] = {
            "regions": len(regions),
            "solved": sum(solved),
            "largest_gap": max((float(one.short.max()) for one in regions), default=0.0),
            "region_seconds": round(sum(one.seconds for one in regions), 3),
        }
        if not any(solved):
            return copy.deepcopy(model), facts | {"ended": "OUT_OF_TIME"}, ()
        pairs = [p for p in zip(regions, labels, strict=True) if p[0].status.found]
        made = self._patched(model, pairs, wrong.images.device)
        return made, facts | {"sharpness": self._sharpened(made, wrong, context.batch_size)}, ()

    def _regions(
        self, model: nn.Module, wrong: Batch, context: Context
    ) -> tuple[list[LinearRegion], list[int]]:
        """A region for every input, each an item of the engine; inputs of one region and one
        label share it."""
        network, items = LayeredNetwork(model), dict[tuple[bytes, int], tuple[np.ndarray, int]]()
        images = wrong.images.detach().cpu().double().numpy()
        for image, label in zip(images, wrong.labels.tolist(), strict=True):
            here = network.look(image)
            key = np.packbits(here.values(here.units) > 0).tobytes(), label
            items.setdefault(key, (image, label))
        regions = list[LinearRegion]()
        with context.engine.shared(model) as shared:
            for region in context.engine.keep(
                "linear regions",
                partial(_region, shared, self.margin, self.solver, self.seconds),
                list(items.values()),
                work=f"{self!r} {identity(model, wrong)}",
                pack=_to_plain,
                unpack=_from_plain,
            ):
                regions.append(region)
                context.tell("linear regions", len(regions), len(items))
        return regions, [label for _, label in items.values()]

    def _patched(
        self, model: nn.Module, pairs: list[tuple[LinearRegion, int]], device: torch.device
    ) -> RegionPatched:
        active = np.stack([region.active for region, _ in pairs])
        shift = np.stack([smallest_shift(region.short, label) for region, label in pairs])
        sizes = active.shape[0], active.shape[1], shift.shape[1]
        made = RegionPatched(copy.deepcopy(model), *sizes).to(device)
        made.active.copy_(torch.from_numpy(active))
        made.shift.copy_(torch.from_numpy(shift))
        made.eval()
        describe_regions(made, model)
        return made

    def _sharpened(self, made: RegionPatched, wrong: Batch, batch_size: int) -> float:
        """γ, doubled while some patch reaches an input that is not its own."""
        best, most = self.sharpness, -1
        for doubling in range(_DOUBLINGS):
            made.sharpness.fill_(self.sharpness * 2**doubling)
            count = int(right(made, wrong, batch_size).sum())
            if count > most:
                best, most = float(made.sharpness), count
            if count == len(wrong):
                break
        made.sharpness.fill_(best)
        return best


def _region(
    model: Handle[nn.Module],
    margin: float,
    solver: str,
    seconds: float | None,
    item: tuple[np.ndarray, int],
) -> LinearRegion:
    return linear_region(LayeredNetwork(model.get()), *item, margin, solver, seconds)


def _to_plain(region: LinearRegion) -> dict[str, Any]:
    return vars(region) | {"status": region.status.name}


def _from_plain(value: dict[str, Any]) -> LinearRegion:
    return LinearRegion(**(value | {"status": SolverStatus[value["status"]]}))
