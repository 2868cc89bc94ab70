"""The way of a repair: bound N once, train all patches, allocate, prove."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from suture import bounds
from suture.bounds import Method, Network
from suture.certify import Certificate
from suture.models import fingerprint, untouched
from suture.repairs.advrepair.allocation import Allocation, Anchors, Rule
from suture.repairs.advrepair.bank import Layers, PatchBank, initial
from suture.repairs.advrepair.bounding import Relaxed, bound_network
from suture.repairs.advrepair.bundling import describe, halves
from suture.repairs.advrepair.features import sampled_boxes
from suture.repairs.advrepair.patched import PatchedClassifier
from suture.repairs.advrepair.proving import certificates, prove_leaves, proved
from suture.repairs.advrepair.regions import Regions
from suture.repairs.advrepair.start import closing_bias, gaps, in_logits, in_units, with_bias
from suture.repairs.advrepair.training import Leaves, Training, divided, train
from suture.rng import Stream
from suture.types import Box

Tell = Callable[[str, int, int], None]
_RELATIVE = 0.03
"""Part of the margin that grows with the gap. DeepPoly's bounds of one box turn by a percent with
the boxes that are bounded beside it and with the last bits of its numbers (a slope that flips):
a proof, and one who checks it alone, must find it all the same."""


class State(Enum):
    """What became of a region; "repaired" is not "proved", and neither is it "disproved"."""

    PROVED = "proved"
    REPAIRED = "repaired"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What ``AdvRepair`` was told, for one repair; see there."""

    hidden: tuple[int, ...]
    guidance: Literal["property", "untargeted", "targeted"]
    rounds: int
    epochs: int
    split: int
    optimiser: Literal["adam", "gd"]
    rate: float
    cuts: int
    start: float
    margin: float
    most: int
    at: str | None
    feature_samples: int
    method: Method


@dataclass(frozen=True, eq=False)
class Mended:
    """A repaired model, what is proved of it, and how it came about."""

    model: PatchedClassifier
    regions: Regions
    proved: Tensor
    certificates: tuple[Certificate, ...]
    trace: dict[str, Any]

    def judged(self, wrong: Tensor, region: Tensor, batch_size: int) -> list[State]:
        """The state of every region, given counterexamples and where they lie.

        A region is repaired when its counterexamples and its centre behave.
        """
        inputs = torch.cat([self.regions.centre, wrong])
        where = torch.cat([torch.arange(len(self.regions)), region])
        with torch.no_grad(), untouched(self.model):
            out = torch.cat([self.model(piece) for piece in inputs.split(batch_size)])
        bad = torch.zeros(len(self.regions)).index_add_(
            0, where, (~self.regions.holds(out, where)).float()
        )
        pairs = zip(self.proved.tolist(), (bad == 0).tolist(), strict=True)
        return [
            State.PROVED if sure else State.REPAIRED if good else State.FAILED
            for sure, good in pairs
        ]


@dataclass(frozen=True, eq=False)
class _Centres:
    """What N says at the regions' centres."""

    logits: Tensor
    key: Tensor

    @property
    def ranked(self) -> Tensor:
        return self.logits.argsort(dim=1, descending=True, stable=True)


def mend(
    model: nn.Module, regions: Regions, plan: Plan, stream: Stream, batch_size: int, tell: Tell
) -> Mended:
    """Repair the regions of a copy of the model; with ``plan.at`` in a feature space."""
    clock = [time.monotonic()]
    base = copy.deepcopy(model).eval()
    encoder, head = halves(base, plan.at)
    centres = _centres(encoder, head, regions, batch_size)
    owner = _owners(regions, centres, plan.guidance)
    box = regions.box
    if plan.at is not None:
        tell("sampling features", 0, 1)
        box = sampled_boxes(
            encoder, regions, plan.feature_samples, stream.child("features"), batch_size
        )
    network = bounds.read(nn.Sequential(head), tuple(box.lower.shape[1:]))
    clock.append(time.monotonic())
    layers, leaves, facts = _trained(
        network, box, regions, owner, _floor(centres, owner, plan), plan, stream, tell, clock
    )
    patched = _assembled(encoder, head, layers, regions, owner, centres, plan)
    patched.eval()
    describe(patched, model, plan.at)
    sure = torch.zeros(len(regions), dtype=torch.bool)
    made: tuple[Certificate, ...] = ()
    if plan.at is None:
        tell("proving", 0, 1)
        proof = prove_leaves(patched, network, regions, leaves, plan.method)
        sure = proved(proof, regions)
        made = certificates(proof, regions, owner, fingerprint(patched), plan.method)
    clock.append(time.monotonic())
    names = ("prepare", "bound", "train", "prove")
    seconds = [round(b - a, 3) for a, b in pairwise(clock)]
    facts |= {"patches": patched.bank.count, "seconds_of": dict(zip(names, seconds, strict=True))}
    return Mended(patched, regions, sure, made, facts)


def _centres(encoder: nn.Module, head: nn.Module, regions: Regions, batch_size: int) -> _Centres:
    with torch.no_grad():
        features = [encoder(piece) for piece in regions.centre.split(batch_size)]
        logits = torch.cat([head(piece) for piece in features])
    inside = isinstance(encoder, nn.Identity)
    return _Centres(logits, logits if inside else torch.cat(features).flatten(1))


def _owners(regions: Regions, centres: _Centres, guidance: str) -> Tensor:
    """int64 ``(m,)``: the patch of each region, numbered from 0 without gaps."""
    if guidance == "property" or regions.labels is None:
        return regions.groups()
    key = regions.labels
    if guidance == "targeted":
        key = key * centres.logits.shape[1] + centres.ranked[:, 1]
    numbered: Tensor = key.unique(return_inverse=True)[1]
    return numbered


def _floor(centres: _Centres, owner: Tensor, plan: Plan) -> Tensor:
    """``(p,)``: the least unit of a patch. Sampled features seldom show a gap, so that in feature
    space a patch counts in ranges of N's logits."""
    logits = centres.logits
    wide = logits.amax(1) - logits.amin(1) if plan.at else torch.zeros(len(logits))
    least = torch.full((int(owner.max()) + 1,), plan.margin)
    return least.scatter_reduce(0, owner, wide, "amax")


def _trained(
    network: Network, box: Box, regions: Regions, owner: Tensor, floor: Tensor, plan: Plan,
    stream: Stream, tell: Tell, clock: list[float],
) -> tuple[Layers, Leaves, dict[str, Any]]:  # fmt: skip
    patches, shape = int(owner.max()) + 1, network.in_shape
    tell("bounding the network", 0, 1)

    def relax(lower: Tensor, upper: Tensor, region: Tensor) -> Relaxed:
        part = Box(lower.view(-1, *shape), upper.view(-1, *shape))
        rows, add = regions.rows[region], regions.add[region]
        return bound_network(network, part, rows, add, plan.method)

    def relax_in_units(lower: Tensor, upper: Tensor, region: Tensor) -> Relaxed:
        return in_units(relax(lower, upper, region), unit[owner[region]])

    whole = torch.arange(len(regions))
    given = relax(box.lower.flatten(1), box.upper.flatten(1), whole)
    leaves = divided(Leaves(given, whole, owner), plan.cuts * len(regions), relax)
    gap = gaps(leaves.linear.alone(), leaves.owner, patches)
    unit = torch.maximum(gap.amax(1), floor)
    margin = plan.margin + _RELATIVE * unit
    gap = torch.where(gap > 0, gap + margin[:, None] * 1.01, gap)
    if plan.optimiser == "gd":
        unit = torch.ones_like(unit)
    position = torch.arange(len(owner))
    first = torch.full((patches,), len(owner)).scatter_reduce(0, owner, position, "amin")
    bias = closing_bias(gap, regions.rows[first], regions.clause)
    layers = initial(
        patches, given.lower.shape[1], plan.hidden, regions.rows.shape[2], stream.child("patches")
    )
    layers = with_bias(layers, plan.start * bias / unit[:, None])
    clock.append(time.monotonic())
    how = Training(
        rounds=plan.rounds,
        epochs=plan.epochs,
        split=plan.split,
        rate=plan.rate,
        optimiser=plan.optimiser,
        margin=margin / unit,
        clause=regions.clause,
        clipped=plan.at is None,
        method=plan.method,
    )
    leaves = Leaves(in_units(leaves.linear, unit[leaves.owner]), leaves.region, leaves.owner)
    told = partial(tell, "training patches")
    trained, leaves, facts = train(layers, leaves, how, relax_in_units, told)
    clock.append(time.monotonic())
    facts["largest_gap"] = round(float(gap.max()), 6)
    return in_logits(trained, unit), leaves, facts


def _assembled(
    encoder: nn.Module, head: nn.Module, layers: Layers, regions: Regions, owner: Tensor,
    centres: _Centres, plan: Plan,
) -> PatchedClassifier:  # fmt: skip
    weight = layers[0][0]
    bank = PatchBank(len(weight), weight.shape[2], plan.hidden, regions.rows.shape[2])
    bank.fill(layers)
    half = regions.half.flatten(1)
    ranked = centres.ranked
    anchors = Anchors(
        centre=regions.centre.flatten(1),
        reach=half[:, :1] if regions.cubes else half,
        patch=owner,
        label=ranked[:, 0],
        second=ranked[:, 1],
        key=centres.key,
    )
    return PatchedClassifier(
        encoder, head, bank, Allocation(anchors, bank.count, _rule(regions, plan), plan.most)
    )


def _rule(regions: Regions, plan: Plan) -> Rule:
    if regions.labels is None:
        return "none"
    if plan.guidance == "untargeted":
        return "label"
    if plan.guidance == "targeted":
        return "pair"
    return "similar" if plan.at is None else "similar-near"
