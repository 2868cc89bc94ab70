"""AIGENT, Table III: the smallest patch of every layer of ACAS Xu networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch

from suture import models
from suture.data import acasxu
from suture.errors import DataError
from suture.repairs.weight_patch import (
    LayerPatch,
    Point,
    Wish,
    below,
    patch_layer,
    tail_of,
    with_patch,
)
from suture.repairs.weight_patch.phase_free import smallest_patch
from suture.repairs.weight_patch.program import Size
from suture.rng import Stream
from suture.studies.aigent import columns
from suture.studies.base import STUDIES, Cell, Row, Study
from suture.studies.paper import printed

_TRIES, _ROUND = 2_000_000, 100_000


@STUDIES.add("aigent-layers")
@dataclass(frozen=True, kw_only=True)
class AigentLayers(Study):
    """One input that violates a property is made right by a patch of one layer, layer by layer.

    The paper names neither its four networks nor their inputs. Here the networks are ``networks``,
    and the input is the first violation among random inputs of the property's box.

    Attributes:
        networks: N_{a,b} as "a_b".
        property: 2 (unsafe: clear of conflict has the largest score).
        margin: by which another score must exceed it.
        sizes: what is minimised: "l1" the sum, "linf" the largest change.
        points: violations that one patch must repair together, a table for each number.
        phases: "fixed" to the input's, or "free": the smallest patch in any phases, with a bound.
        seconds: limit for one patch.
    """

    title: ClassVar[str] = "AIGENT, Table III: patches of ACAS Xu networks by layer"
    paper: ClassVar[str] = (
        f"{printed('aigent').citation}; "
        "Goldberger et al., Minimal Modifications of Deep Neural Networks using Verification"
    )
    networks: tuple[str, ...] = ("2_9", "3_8", "5_7", "5_9")
    property: int = 2
    margin: float = 1e-6
    sizes: tuple[str, ...] = ("l1", "linf")
    points: tuple[int, ...] = (1, 10)
    phases: str = "fixed"
    seconds: float = 60.0

    def cells(self) -> list[Cell]:
        """One cell a network and number of points."""
        return [
            Cell(f"{name}/points={count}", partial(_measure, self, name, count))
            for name in self.networks
            for count in self.points
        ]

    tables = columns.tables_3
    notes = staticmethod(columns.layer_notes)


def _measure(study: AigentLayers, name: str, count: int, stream: Stream) -> list[Row]:
    a, b = (int(part) for part in name.split("_"))
    model = models.load(acasxu.network(a, b))
    tail = tail_of(model.double())
    entries, outputs = _violations(study, tail, name, count, stream)
    index = 0
    points = [
        below(entry, index, output, study.margin)
        for entry, output in zip(entries, outputs, strict=True)
    ]
    facts = {"network": name, "points": count, **_closed(points[0], tail)}
    return [
        {**facts, "size": size, **_row(study, model, tail, layer, points, size, entries)}
        for size in study.sizes
        for layer in range(1, len(tail) + 1)
    ]


def _violations(
    study: AigentLayers, tail: Any, name: str, count: int, stream: Stream
) -> tuple[np.ndarray, np.ndarray]:
    """The first random inputs of the property's box that violate it, with their scores."""
    wanted, random = acasxu.acas_property(study.property), stream.child("inputs").numpy()
    (lower, upper) = wanted.boxes[0]
    found, scores = list[np.ndarray](), list[np.ndarray]()
    for _ in range(_TRIES // _ROUND):
        tries = random.uniform(lower, upper, (_ROUND, len(lower)))
        values = tries
        for index, (weight, bias) in enumerate(zip(tail.weights, tail.biases, strict=True)):
            values = (np.maximum(values, 0.0) if index else values) @ weight.T + bias
        hits = wanted.violated_by(values).nonzero()[0]
        found.extend(tries[hits])
        scores.extend(values[hits])
        if len(found) >= count:
            return np.array(found[:count]), np.array(scores[:count])
    raise DataError(
        expected=f"{count} inputs that violate property {study.property} on N_{name}",
        got=f"{len(found)} among {_TRIES:,} random ones",
        remedy="Choose other networks, or fewer points.",
    )


def _closed(point: Point, tail: Any) -> dict[str, float]:
    """The last layer's smallest patches for one row: gap / max |c| and gap / Σ|c|."""
    inputs, values = tail.values(point.entry)
    slopes = np.abs(np.outer(point.matrix[0], inputs[-1]))
    gap = float(point.right[0] - point.matrix[0] @ values[-1])
    return {"gap": gap, "closed_sum": gap / slopes.max(), "closed_largest": gap / slopes.sum()}


def _row(
    study: AigentLayers,
    model: torch.nn.Module,
    tail: Any,
    layer: int,
    points: list[Point],
    size: str,
    entries: np.ndarray,
) -> Row:
    phases = cast(Literal["fixed", "free"], study.phases)
    wish = Wish(size=cast(Size, size), phases=phases, seconds=study.seconds)
    solve = smallest_patch if phases == "free" else patch_layer
    patch = solve(tail, layer, points, wish)
    return {
        "layer": layer,
        "status": patch.status.name.lower(),
        "solved": patch.status.found,
        "changed": patch.count,
        "total": patch.total,
        "largest": patch.largest,
        "seconds": round(patch.seconds, 4),
        "programs": patch.programs,
        "bound": patch.bound if np.isfinite(patch.bound) else None,
        "right": _right(model, patch, entries),
    }


def _right(model: torch.nn.Module, patch: LayerPatch, entries: np.ndarray) -> int:
    """Inputs whose first score is no longer the largest: by the patched network's own forward."""
    with torch.no_grad():
        inputs = torch.from_numpy(entries).reshape(-1, 1, 1, entries.shape[1])
        scores = with_patch(model, patch)(inputs)
    return int((scores.argmax(1) != 0).sum())
