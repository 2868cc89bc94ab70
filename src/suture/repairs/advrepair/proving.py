"""What is proved of each region in the end: float64, all networks that can answer, a margin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from suture.bounds import Method, Network
from suture.bounds.crown import known_only
from suture.certify import Certificate
from suture.certify.proving import SLACK
from suture.repairs.advrepair.bank import Layers, choose
from suture.repairs.advrepair.bounding import bound_network, joint
from suture.repairs.advrepair.patched import PatchedClassifier, answering_pairs
from suture.repairs.advrepair.regions import Regions, worst_clause
from suture.repairs.advrepair.training import Leaves
from suture.types import Box

_TOGETHER = 1
"""Boxes bounded together. A box's bound can turn with its neighbours (a neuron that is open in one
of them is bounded in all); who checks a certificate has that box alone, so the proof has too."""


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


def prove_leaves(
    model: PatchedClassifier, network: Network, regions: Regions, leaves: Leaves, method: Method
) -> Proof:
    """Bound every box with every patch that may answer there.

    Args:
        network: N's, in float32; it is cast.
        leaves: the boxes; where a region was not cut, its own box.
    """
    shape = network.in_shape
    lower = leaves.linear.lower.double().view(-1, *shape)
    upper = leaves.linear.upper.double().view(-1, *shape)
    box, patch = answering_pairs(model.allocation, lower.flatten(1), upper.flatten(1))
    wide, layers = (
        network.to(torch.float64),
        [(w.double(), b.double()) for w, b in model.bank.layers],
    )
    exact = regions.to(torch.float64)
    found = torch.cat([
        _bound(wide, layers, exact, Box(lower[b], upper[b]), leaves.region[b], p, method)
        for b, p in zip(box.split(_TOGETHER), patch.split(_TOGETHER), strict=True)
    ])  # fmt: skip
    # Several networks may answer in a box: each form is worth what it is for the worst of them.
    index = box[:, None].expand_as(found)
    worst = torch.full((len(lower), found.shape[1]), float("inf"), dtype=torch.float64)
    worst = worst.scatter_reduce(0, index, found, "amin")
    return Proof(lower, upper, leaves.region, worst)


def _bound(
    network: Network, layers: Layers, regions: Regions, box: Box, region: Tensor, patch: Tensor,
    method: Method,
) -> Tensor:  # fmt: skip
    add = regions.add[region]
    given = bound_network(network, box, regions.rows[region], add, method)
    with torch.no_grad():
        found = known_only(joint(given, choose(layers, patch), method)[0])
    return found - SLACK * (1 + found.abs() + add.abs())


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
            Certificate(proof.lower[box], proof.upper[box], rows, add, float(bounds.min()),
                        method, fingerprint, note)
        )  # fmt: skip
    return tuple(made)
