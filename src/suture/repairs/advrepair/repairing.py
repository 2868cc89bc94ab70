"""The way of a repair: bound N once, train all patches, allocate, prove."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from suture import bounds
from suture.certify import Certificate, Promise
from suture.models import digest, fingerprint, untouched
from suture.repairs.advrepair.allocation import Allocation, Anchors, Rule
from suture.repairs.advrepair.bank import Layers, PatchBank
from suture.repairs.advrepair.bundling import describe, halves
from suture.repairs.advrepair.features import sampled_boxes
from suture.repairs.advrepair.patched import PatchedClassifier
from suture.repairs.advrepair.proving import certificates, prove_boxes, proved
from suture.repairs.advrepair.regions import Regions
from suture.repairs.advrepair.settings import PatchSettings
from suture.repairs.advrepair.start import begin, in_logits
from suture.repairs.advrepair.training import TrainedPatches, train
from suture.repairs.context import Context
from suture.types import Box


class RegionStatus(Enum):
    """What became of a region; "repaired" is not "proved", and neither is it "disproved"."""

    PROVED = "proved"
    REPAIRED = "repaired"
    FAILED = "failed"


@dataclass(frozen=True, eq=False)
class PatchedRegions:
    """A repaired model, what is proved of it, and how it came about."""

    model: PatchedClassifier
    regions: Regions
    proved: Tensor
    certificates: tuple[Certificate, ...]
    trace: dict[str, Any]

    @property
    def promise(self) -> Promise | None:
        """All balls; ``None`` for regions that are no balls, and in a feature space."""
        regions = self.regions
        if regions.labels is None or not regions.cubes or self.model.in_feature_space:
            return None
        radius = float(regions.half.flatten()[0])
        network = fingerprint(self.model)
        return Promise.of(regions.centre, radius, regions.labels, network, self.certificates)

    def judged(self, wrong: Tensor, region: Tensor, batch_size: int) -> list[RegionStatus]:
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
            RegionStatus.PROVED if sure else RegionStatus.REPAIRED if good else RegionStatus.FAILED
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


def patch_regions(
    model: nn.Module, regions: Regions, settings: PatchSettings, context: Context
) -> PatchedRegions:
    """Repair the regions of a copy of the model; with ``settings.at`` in a feature space."""
    clock = [time.monotonic()]
    base = copy.deepcopy(model).eval()
    encoder, head = halves(base, settings.at)
    centres = _centres(encoder, head, regions, context.batch_size)
    owner = _owners(regions, centres, settings.guidance)
    box = _boxes(encoder, regions, settings, context)
    network = bounds.read(nn.Sequential(head), tuple(box.lower.shape[1:]))
    work = _identity(model, regions, settings, context)
    clock.append(time.monotonic())
    floor = _floor(centres, owner, settings)
    first = begin(network, box, regions, owner, floor, settings, context)
    clock.append(time.monotonic())
    tell = partial(context.tell, "training patches")
    trained = train(first.task, context.engine, work=work, on_progress=tell)
    clock.append(time.monotonic())
    layers = in_logits(trained.layers, first.unit)
    patched = _assembled(encoder, head, layers, regions, owner, centres, settings).eval()
    describe(patched, model, settings.at)
    sure, made = _proved(patched, network, regions, owner, trained, settings, context, work)
    clock.append(time.monotonic())
    facts = {
        "epochs": trained.epochs,
        "rounds": trained.rounds,
        "boxes": len(trained.region),
        "largest_gap": round(first.largest_gap, 6),
        "patches": patched.bank.count,
        "seconds_of": _seconds(clock),
    }
    return PatchedRegions(patched, regions, sure, made, facts)


def _seconds(clock: list[float]) -> dict[str, float]:
    names = ("prepare", "bound", "train", "prove")
    seconds = [round(b - a, 3) for a, b in pairwise(clock)]
    return dict(zip(names, seconds, strict=True))


def _boxes(encoder: nn.Module, regions: Regions, settings: PatchSettings, context: Context) -> Box:
    """Of the regions where patches see them: the inputs, or what the encoder makes of samples."""
    if settings.at is None:
        return regions.box
    context.tell("sampling features", 0, 1)
    stream = context.stream.child("features")
    return sampled_boxes(encoder, regions, settings.feature_samples, stream, context.batch_size)


def _proved(
    patched: PatchedClassifier,
    network: bounds.Network,
    regions: Regions,
    owner: Tensor,
    trained: TrainedPatches,
    settings: PatchSettings,
    context: Context,
    work: str,
) -> tuple[Tensor, tuple[Certificate, ...]]:
    """Which regions are proved, and their certificates; none in a feature space."""
    if settings.at is not None:
        return torch.zeros(len(regions), dtype=torch.bool), ()
    proof = prove_boxes(
        patched,
        network,
        regions,
        trained.lower,
        trained.upper,
        trained.region,
        settings.bounds,
        context.engine,
        work=work,
        on_progress=partial(context.tell, "proving"),
    )
    found = certificates(proof, regions, owner, fingerprint(patched), settings.bounds)
    return proved(proof, regions), found


def _identity(model: nn.Module, regions: Regions, settings: PatchSettings, context: Context) -> str:
    """Says what is repaired, for a run that keeps pieces."""
    parts = (regions.box.lower, regions.box.upper, regions.rows, regions.add)
    named = " ".join([fingerprint(model), *map(digest, parts)])
    return f"{settings!r} {context.stream.key} {context.batch_size} {named}"


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
    elif guidance == "one":
        key = torch.zeros_like(key)
    numbered: Tensor = key.unique(return_inverse=True)[1]
    return numbered


def _floor(centres: _Centres, owner: Tensor, settings: PatchSettings) -> Tensor:
    """``(p,)``: the least unit of a patch. Sampled features seldom show a gap, so that in feature
    space a patch counts in ranges of N's logits."""
    logits = centres.logits
    wide = logits.amax(1) - logits.amin(1) if settings.at else torch.zeros(len(logits))
    least = torch.full((int(owner.max()) + 1,), settings.margin)
    return least.scatter_reduce(0, owner, wide, "amax")


def _assembled(
    encoder: nn.Module,
    head: nn.Module,
    layers: Layers,
    regions: Regions,
    owner: Tensor,
    centres: _Centres,
    settings: PatchSettings,
) -> PatchedClassifier:
    bank = PatchBank(
        len(layers[-1][0]),
        layers[0][0].shape[-1],
        settings.hidden,
        regions.rows.shape[2],
        settings.common,
    )
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
        encoder,
        head,
        bank,
        Allocation(anchors, bank.count, _rule(regions, settings), settings.most),
    )


def _rule(regions: Regions, settings: PatchSettings) -> Rule:
    if regions.labels is None or settings.guidance == "one":
        return "none"
    if settings.guidance == "untargeted":
        return "label"
    if settings.guidance == "targeted":
        return "pair"
    return "similar" if settings.at is None else "similar-near"
