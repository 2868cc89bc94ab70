"""Where training starts: patches whose last bias nearly closes the gap, in units of the gap."""

from __future__ import annotations

import torch
from torch import Tensor

from suture.repairs.advrepair.bank import Layers
from suture.repairs.advrepair.bounding import Relaxed


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


def in_units(given: Relaxed, unit: Tensor) -> Relaxed:
    """N's bounds divided by a unit per box ``(n,)``: patches then train on numbers around 1."""
    slope, shift = given.slope / unit[:, None, None], given.shift / unit[:, None]
    return Relaxed(given.lower, given.upper, slope, shift, given.rows)


def in_logits(layers: Layers, unit: Tensor) -> Layers:
    """Trained patches with their last layer times the unit ``(p,)`` of each."""
    weight, bias = layers[-1]
    return [*layers[:-1], (weight * unit[:, None, None], bias * unit[:, None])]


def with_bias(layers: Layers, bias: Tensor) -> Layers:
    """The layers with constants ``(p, classes)`` added to the last bias."""
    weight, last = layers[-1]
    return [*layers[:-1], (weight, last + bias)]
