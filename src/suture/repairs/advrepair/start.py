"""Where training starts: patches whose last bias nearly closes the gap, in units of the gap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from suture.bounds import Network
from suture.engine import Engine, Handle
from suture.repairs.advrepair.bank import Layers, initial
from suture.repairs.advrepair.bounding import TOGETHER, Relaxed, Relaxing
from suture.repairs.advrepair.epochs import Training
from suture.repairs.advrepair.regions import Regions
from suture.repairs.advrepair.settings import PatchSettings
from suture.repairs.advrepair.subdomains import Subdomains, divided
from suture.repairs.advrepair.training import TrainingTask
from suture.repairs.context import Context
from suture.types import Box, OnDone

_RELATIVE = 0.03
"""Part of the margin that grows with the gap. DeepPoly's bounds of one box turn by a percent with
the boxes that are bounded beside it and with the last bits of its numbers (a slope that flips):
a proof, and one who checks it alone, must find it all the same."""


@dataclass(frozen=True, eq=False)
class Start:
    """Patches ready to be trained, in units of what each has to close.

    Attributes:
        task: what training needs.
        unit: ``(p,)``, logits.
        largest_gap: of all forms, logits.
    """

    task: TrainingTask
    unit: Tensor
    largest_gap: float


def begin(
    network: Network,
    box: Box,
    regions: Regions,
    owner: Tensor,
    floor: Tensor,
    settings: PatchSettings,
    context: Context,
) -> Start:
    """Bound N on every box, cut boxes where the settings want it, and set up the patches.

    Args:
        network: N.
        box: of each region, in N's space.
        owner: int64 ``(m,)``, each region's patch.
        floor: ``(p,)``, the least unit of a patch.
    """
    relax = Relaxing(network, regions.rows, regions.add, torch.ones(len(owner)), settings.bounds)
    tell = partial(context.tell, "bounding the network")
    bounded = _bounded(relax, box, context.engine, tell)
    subdomains = Subdomains(bounded, torch.arange(len(owner)), owner)
    subdomains = divided(subdomains, settings.cuts * len(owner), relax)
    gap = gaps(subdomains.linear.alone(), subdomains.owner, len(floor))
    unit = torch.maximum(gap.amax(1), floor)
    margin = settings.margin + _RELATIVE * unit
    gap = torch.where(gap > 0, gap + margin[:, None] * 1.01, gap)
    if settings.optimiser == "gd":
        unit = torch.ones_like(unit)
    layers = with_bias(
        initial(
            len(floor),
            box.lower[0].numel(),
            settings.hidden,
            regions.rows.shape[2],
            context.stream.child("patches"),
            settings.common,
            settings.quiet,
        ),
        settings.closed
        * closing_bias(gap, regions.rows[_first(owner)], regions.clause)
        / unit[:, None],
    )
    how = Training(
        rounds=settings.rounds,
        epochs=settings.epochs,
        split=settings.split,
        rate=settings.learning_rate,
        optimiser=settings.optimiser,
        margin=margin / unit,
        clause=regions.clause,
        clipped=settings.at is None,
        method=settings.bounds,
    )
    in_units = Subdomains(
        subdomains.linear.divided(unit[subdomains.owner]), subdomains.region, subdomains.owner
    )
    task = TrainingTask(layers, in_units, how, replace(relax, unit=unit[owner]))
    return Start(task, unit, float(gap.max()))


def _bounded(relax: Relaxing, box: Box, engine: Engine, on_progress: OnDone) -> Relaxed:
    """N's bounds on all regions, which the engine gets in pieces."""
    pieces = list(torch.arange(len(box.lower)).split(TOGETHER))
    parts: list[Relaxed] = []
    with engine.shared((relax, box)) as shared:
        for part in engine.imap(partial(_call, shared), pieces):
            parts.append(part)
            on_progress(len(parts), len(pieces))
    return Relaxed.concat(parts)


def _call(given: Handle[tuple[Relaxing, Box]], region: Tensor) -> Relaxed:
    relax, box = given.get()
    return relax(box.lower[region].flatten(1), box.upper[region].flatten(1), region)


def _first(owner: Tensor) -> Tensor:
    """The first region of each patch."""
    position = torch.arange(len(owner))
    whole = torch.full((int(owner.max()) + 1,), len(owner))
    return whole.scatter_reduce(0, owner, position, "amin")


def gaps(alone: Tensor, owner: Tensor, patches: int) -> Tensor:
    """``(p, k)``: by how much each form falls short of 0 without a patch, at worst over the
    boxes of a patch; 0 where it does not.

    Args:
        alone: lower bounds ``(n, k)`` of N.
        owner: int64 ``(n,)``, the patch of each box.
    """
    short = torch.nan_to_num(alone, -1.0, 0.0, -1.0).neg().clamp_min(0)
    index = owner[:, None].expand_as(short)
    return short.new_zeros(patches, short.shape[1]).scatter_reduce(0, index, short, "amax")


def closing_bias(gap: Tensor, rows: Tensor, clause: tuple[int, ...]) -> Tensor:
    """Constants ``(p, classes)`` that close the gaps: ``rows · b >= gap``.

    Of the forms of a clause only the one that lacks least has to be closed. Outputs that a form
    wants large are raised and none is lowered, so that a ball's label gets its largest gap, and
    an advisory that is chosen by the smallest score stays. Where such constants get in each
    other's way it is the shortest solution of ``rows · b = gap``.

    Args:
        gap: ``(p, k)``.
        rows: ``(p, k, classes)``.
        clause: of the forms.
    """
    of = torch.tensor(clause)
    chosen = torch.stack(
        [gap.masked_fill(of != c, float("inf")).argmin(1) for c in range(max(clause) + 1)], 1
    )
    at = torch.arange(len(gap))[:, None]
    rows, gap = rows[at, chosen].double(), gap[at, chosen].double()
    up = rows.clamp_min(0)
    raised = (up * (gap / up.square().sum(2).clamp_min(1e-12))[..., None]).amax(1)
    short = (torch.einsum("pkc,pc->pk", rows, raised) < gap * (1 - 1e-6)).any(1)
    exact = (torch.linalg.pinv(rows) @ gap[..., None])[..., 0]
    return torch.where(short[:, None], exact, raised).to(torch.float32)


def in_logits(layers: Layers, unit: Tensor) -> Layers:
    """Trained patches with their last layer times the unit ``(p,)`` of each."""
    weight, bias = layers[-1]
    return [*layers[:-1], (weight * unit[:, None, None], bias * unit[:, None])]


def with_bias(layers: Layers, bias: Tensor) -> Layers:
    """The layers with constants ``(p, classes)`` added to the last bias."""
    weight, last = layers[-1]
    return [*layers[:-1], (weight, last + bias)]
