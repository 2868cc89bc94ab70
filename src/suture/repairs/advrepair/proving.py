"""What is proved of each region in the end: float64, all networks that can answer, a margin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from suture.bounds import Method, Network
from suture.bounds.crown import known_only
from suture.certify import Certificate
from suture.certify.proving import SLACK
from suture.engine import Engine, Handle
from suture.repairs.advrepair.bank import Layers, choose
from suture.repairs.advrepair.bounding import bound_network, joint
from suture.repairs.advrepair.patched import PatchedClassifier, answering_pairs
from suture.repairs.advrepair.regions import Regions, worst_clause
from suture.types import Box, OnDone

_PIECE = 32
"""Boxes of a piece. Each is bounded alone, since its bound can turn with its neighbours (a neuron
that is unstable in one of them is bounded in all): who checks a certificate has that box alone, so
the proof has too."""


@dataclass(frozen=True, eq=False)
class Proof:
    """Lower bounds of all forms on all boxes, the smallest over the networks that can answer.

    Attributes:
        lower, upper: boxes ``(n, *in_shape)`` float64.
        region: int64 ``(n,)``.
        bounds: ``(n, k)`` float64, with outward slack.
    """

    lower: Tensor
    upper: Tensor
    region: Tensor
    bounds: Tensor


def prove_boxes(
    model: PatchedClassifier,
    network: Network,
    regions: Regions,
    lower: Tensor,
    upper: Tensor,
    region: Tensor,
    method: Method,
    engine: Engine,
    *,
    work: str,
    on_progress: OnDone,
) -> Proof:
    """Bound every box with every patch that may answer there.

    Args:
        network: N's, in float32; it is cast.
        lower, upper: boxes ``(n, d)``; where a region was not cut, its own box.
        region: int64 ``(n,)``, the region of each.
        engine: gets the boxes in pieces.
        work: says what is proved, for a run that keeps pieces.
    """
    shape = network.in_shape
    lower = lower.double().view(-1, *shape)
    upper = upper.double().view(-1, *shape)
    box, patch = answering_pairs(model.allocation, lower.flatten(1), upper.flatten(1))
    layers = [(w.double(), b.double()) for w, b in model.bank.layers]
    exact = regions.to(torch.float64)
    task = _Task(network.to(torch.float64), layers, exact, Box(lower, upper), region, method)
    pieces = list(zip(box.split(_PIECE), patch.split(_PIECE), strict=True))
    found = []
    with engine.shared(task) as shared:
        for part in engine.keep("proofs", partial(_call, shared), pieces, work=work):
            found.append(part)
            on_progress(len(found), len(pieces))
    bounds = torch.cat(found)
    # Several networks may answer in a box: each form is worth what it is for the worst of them.
    worst = torch.full((len(lower), bounds.shape[1]), float("inf"), dtype=torch.float64)
    worst = worst.scatter_reduce(0, box[:, None].expand_as(bounds), bounds, "amin")
    return Proof(lower, upper, region, worst)


@dataclass(frozen=True, eq=False)
class _Task:
    """All that a proof speaks of, in float64."""

    network: Network
    layers: Layers
    regions: Regions
    box: Box
    region: Tensor
    method: Method

    def __call__(self, pairs: tuple[Tensor, Tensor]) -> Tensor:
        """Bounds ``(b, k)`` of boxes ``(b,)`` where patches ``(b,)`` answer, each on its own."""
        return torch.cat(
            [
                self._bound(box, patch)
                for box, patch in zip(*(index.split(1) for index in pairs), strict=True)
            ]
        )

    def _bound(self, box: Tensor, patch: Tensor) -> Tensor:
        part = Box(self.box.lower[box], self.box.upper[box])
        region = self.region[box]
        rows, add = self.regions.rows[region], self.regions.add[region]
        given = bound_network(self.network, part, rows, add, self.method)
        with torch.no_grad():
            found = known_only(joint(given, choose(self.layers, patch), self.method)[0])
        return found - SLACK * (1 + found.abs() + add.abs())


def _call(task: Handle[_Task], pairs: tuple[Tensor, Tensor]) -> Tensor:
    return task.get()(pairs)


def proved(proof: Proof, regions: Regions) -> Tensor:
    """Bool ``(m,)``: regions all of whose boxes are proved."""
    good = worst_clause(proof.bounds, regions.clause) > 0
    bad = torch.zeros(len(regions)).index_add_(0, proof.region, (~good).float())
    return bad == 0


def certificates(
    proof: Proof, regions: Regions, owner: Tensor, fingerprint: str, method: Method
) -> tuple[Certificate, ...]:
    """One certificate for every box of every proved region.

    Args:
        owner: int64 ``(m,)``, each region's patch.
        fingerprint: of the repaired model.
    """
    holds = proved(proof, regions)
    exact = regions.to(torch.float64)
    made = []
    for box in holds[proof.region].nonzero()[:, 0].tolist():
        region = int(proof.region[box])
        rows, add, bounds = exact.claim(region, proof.bounds[box])
        note: dict[str, Any] = {
            "repair": "AdvRepair",
            "region": region,
            "patch": int(owner[region]),
        }
        if regions.labels is not None:
            note["label"] = int(regions.labels[region])
        made.append(
            Certificate(
                proof.lower[box],
                proof.upper[box],
                rows,
                add,
                float(bounds.min()),
                method,
                fingerprint,
                note,
            )
        )
    return tuple(made)
