"""AdvRepair on ACAS Xu: property 2 repaired on 35 networks, Table 2 of the paper."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from suture import models
from suture.data import acasxu
from suture.data.vnnlib import Property
from suture.engine.threads import torch_threads
from suture.evaluate.repair_rates import fidelity_drawdown
from suture.repairs import AdvRepair
from suture.repairs.advrepair import of_property
from suture.repairs.context import Context
from suture.rng import Stream
from suture.studies.advrepair import columns, measuring
from suture.studies.base import STUDIES, Cell, Row, Study
from suture.studies.networks import in_pieces
from suture.studies.paper import printed

SHAPE = (1, 1, 5)
DOMAIN = ((-0.328423, -0.5, -0.5, -0.5, -0.5), (0.679858, 0.5, 0.5, 0.5, 0.5))
"""Normalised inputs for which the networks were made: distance, two angles, two speeds."""
PROPERTY = 2
_PIECE = 65_536
_ASCENT = 40
_BESIDE = 200_000


@STUDIES.add("advrepair-acasxu")
@dataclass(frozen=True, kw_only=True)
class AdvRepairAcasXu(Study):
    """Repair property 2 on every network that violates it.

    Attributes:
        networks: how many of the 35; 0 for all.
        given: counterexamples that the repair is told of.
        others: further ones, for RGR; also how many inputs of the domain FDD is measured on.
        cuts: boxes that the property's box is cut into before training.
        draws: inputs drawn, a million at a time, before the search turns to ascent.
        shared: hidden layers that patches share; the paper's share none.
        start: share of the gap that the patch which begins as a constant closes at once.
    """

    title: ClassVar[str] = "AdvRepair on ACAS Xu, property 2"
    paper: ClassVar[str] = printed("advrepair").citation
    networks: int = 0
    given: int = 500
    others: int = 5000
    cuts: int = 64
    draws: int = 4
    shared: int = 0
    start: float = 1.0

    def cells(self) -> list[Cell]:
        """One cell a network."""
        names = [(a, b) for a in range(2, 6) for b in range(1, 10) if (a, b) != (4, 2)]
        chosen = names[: self.networks] if self.networks else names
        return [Cell(f"N_{a}_{b}", partial(_measure, self, a, b)) for a, b in chosen]

    tables = staticmethod(columns.acasxu)
    notes = columns.acasxu_notes


def _measure(study: AdvRepairAcasXu, a: int, b: int, stream: Stream) -> list[Row]:
    model = models.load(acasxu.network(a, b), in_shape=SHAPE)
    given = acasxu.acas_property(PROPERTY)
    with torch_threads(1):
        started = time.perf_counter()
        wrong = counterexamples(model, given, study.given + study.others, study.draws, stream)
        searched = time.perf_counter() - started
        method = AdvRepair(cuts=study.cuts, margin=1e-4, shared=study.shared)
        facts = {"network": f"N_{a},{b}", "search_seconds": round(searched, 3)}
        return [
            facts | {"patch": patch} | _row(study, model, given, wrong, how, stream)
            for patch, how in (
                ("AdvRepair", method),
                ("AdvRepair from a constant", replace(method, start=study.start, quiet=0.0)),
                ("constant patch", replace(method, patch="constant")),
            )
        ]


def _row(
    study: AdvRepairAcasXu,
    model: nn.Module,
    given: Property,
    wrong: Tensor,
    method: AdvRepair,
    stream: Stream,
) -> dict[str, Any]:
    told, rest = wrong[: study.given], wrong[study.given :]
    where = torch.zeros(len(told), dtype=torch.int64)
    result = method.of_regions(
        model, of_property(given, SHAPE), told, where, Context.of(stream.child("r"))
    )
    fixed = result.model
    low, high = (torch.tensor(corner) for corner in DOMAIN)
    wide = _uniform(low, high, study.others, stream.child("domain"))
    fdd = fidelity_drawdown(
        in_pieces(model, wide, _PIECE).argmin(1), in_pieces(fixed, wide, _PIECE).argmin(1)
    )
    inside = _uniform(*_box(given), 20 * study.others, stream.child("inside"))
    safe = inside[~_violated(model, given, inside)]
    moved = fidelity_drawdown(
        in_pieces(model, safe, _PIECE).argmin(1), in_pieces(fixed, safe, _PIECE).argmin(1)
    )
    trace = result.trace
    return {
        "method": repr(method),
        "rsr": int((~_violated(fixed, given, told)).sum()) if len(told) else 0,
        "rsr_n": len(told),
        "rgr": int((~_violated(fixed, given, rest)).sum()) if len(rest) else 0,
        "rgr_n": len(rest),
        "fdd": fdd[0],
        "fdd_n": fdd[1],
        "kept": moved[1] - moved[0],
        "kept_n": moved[1],
        "still_violated_inside": int(_violated(fixed, given, inside).sum()),
        "proved": trace["proved"],
        "certificates": len(result.certificates),
        "checked": measuring.checked(result),
        **{key: trace[key] for key in ("seconds", "largest_gap", "epochs", "rounds", "boxes")},
    }


def counterexamples(
    model: nn.Module, given: Property, wanted: int, draws: int, stream: Stream
) -> Tensor:
    """At most ``wanted`` inputs ``(n, 1, 1, 5)`` of the box that violate the property.

    Uniform draws; where they find too few, ascent on "the first score is the largest" from the
    inputs that came nearest, and inputs close to those.
    """
    low, high = _box(given)
    found, near = list[Tensor](), list[Tensor]()
    for index in range(draws):
        inputs = _uniform(low, high, 1_000_000, stream.child(index))
        scores = in_pieces(model, inputs, _PIECE)
        bad = torch.from_numpy(given.violated_by(scores.double().numpy()))
        found.append(inputs[bad])
        if sum(map(len, found)) >= wanted:
            break
        excess = scores[:, 0] - scores[:, 1:].amax(1)
        near.append(inputs[excess.masked_fill(bad, -1e9).topk(20_000).indices])
    else:
        found.append(_ascended(model, given, torch.cat(near), low, high))
    known = torch.cat(found)
    if 0 < len(known) < wanted:
        known = torch.cat([known, _beside(model, given, known, low, high, stream.child("beside"))])
    return known[:wanted]


def _beside(
    model: nn.Module, given: Property, known: Tensor, low: Tensor, high: Tensor, stream: Stream
) -> Tensor:
    """Counterexamples within a hundredth of the box around known ones."""
    centres = known[torch.arange(_BESIDE) % len(known)]
    shift = _uniform(low - high, high - low, _BESIDE, stream) / 100
    moved = torch.minimum(torch.maximum(centres + shift, low.view(SHAPE)), high.view(SHAPE))
    return moved[_violated(model, given, moved)]


def _ascended(
    model: nn.Module, given: Property, inputs: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    low, high = low.view(SHAPE), high.view(SHAPE)
    for step in range(_ASCENT):
        inputs = inputs.detach().requires_grad_()
        scores = model(inputs)
        (slope,) = torch.autograd.grad((scores[:, 0] - scores[:, 1:].amax(1)).sum(), inputs)
        size = 0.02 * (1 - step / _ASCENT)
        moved = inputs.detach() + size * (high - low) * slope.sign()
        inputs = torch.minimum(torch.maximum(moved, low), high)
    return inputs[_violated(model, given, inputs)].unique(dim=0)


def _box(given: Property) -> tuple[Tensor, Tensor]:
    low, high = given.boxes[0]
    # Rounded inwards: every float32 input drawn from it satisfies the property's condition.
    inner = np.nextafter(low.astype(np.float32), np.float32(np.inf))
    outer = np.nextafter(high.astype(np.float32), np.float32(-np.inf))
    return torch.from_numpy(inner), torch.from_numpy(outer)


def _uniform(low: Tensor, high: Tensor, count: int, stream: Stream) -> Tensor:
    draws = torch.rand(count, len(low), generator=stream.generator())
    return torch.minimum(low + (high - low) * draws, high).view(count, *SHAPE)


def _changed(before: nn.Module, after: nn.Module, inputs: Tensor) -> tuple[int, int]:
    """Inputs whose advisory differs, and how many there are."""
    said = [in_pieces(model, inputs, _PIECE).argmin(1) for model in (before, after)]
    return fidelity_drawdown(*said)


def _violated(model: nn.Module, given: Property, inputs: Tensor) -> Tensor:
    return torch.from_numpy(given.violated_by(in_pieces(model, inputs, _PIECE).double().numpy()))
