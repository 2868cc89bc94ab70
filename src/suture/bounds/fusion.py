"""The worst-case cross entropy from one row, whatever the number of classes (loss fusion).

Xu et al. 2020, "Automatic Perturbation Analysis for Scalable Certified Robustness and Beyond",
section 3.3 (arXiv:2002.12920): the loss is bounded as a part of the network, not from a bound of
every margin. With ``t_j = z_j - z_label`` the cross entropy is ``log(1 + sum exp t_j)``; on its
interval every ``exp`` lies below a chord, so the sum lies below one linear form of the logits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from suture.bounds.crown import State, interval_lower_bounds, lower_bounds, prepare
from suture.bounds.margins import margin_rows, with_ends
from suture.bounds.network import Network
from suture.types import Box

Ends = tuple[Tensor, Tensor]
_SHORT = 1e-4
"""Shorter intervals have the tangent's slope: the chord's would be all rounding."""


def fused_cross_entropy(
    network: Network, box: Box, labels: Tensor, share: float
) -> tuple[Tensor, Tensor]:
    """``share · CROWN-IBP + (1 - share) · IBP``, each an upper bound of the cross entropy.

    CROWN-IBP substitutes one row back where margins need ``classes - 1``; chords make it a little
    looser than ``worst_case_cross_entropy`` of its margins. Of intervals it is the same number.

    Args:
        network, box, labels, share: as for ``mixed_margins``.

    Returns:
        bounds of the cross entropy anywhere in the box, ``(n,)``; which examples keep their class
        on all of it, bool ``(n,)``.
    """
    rows = margin_rows(labels, network.out_shape[-1], box.lower.dtype)
    state = prepare(network, box, "crown-ibp" if share > 0 else "ibp")
    ended = with_ends(state) if share > 0 else state
    ends = interval_lower_bounds(ended, -rows), -interval_lower_bounds(ended, rows)
    plain = torch.logaddexp(ends[1].logsumexp(1), ends[1].new_zeros(()))
    if share <= 0:
        return plain, (ends[1].detach() < 0).all(1)
    fused = _fused(state, rows, ends)
    kept = (ends[1].detach() < 0).all(1) | (fused.detach() < math.log(2))
    return share * fused + (1 - share) * plain, kept


def _fused(state: State, rows: Tensor, ends: Ends) -> Tensor:
    """``log(1 + sum of chords)``, every ``exp`` over the largest of them, ``(n,)``."""
    largest = ends[1].amax(1, keepdim=True).clamp(min=0)
    slopes, constants = chords(ends[0] - largest, ends[1] - largest, ends[0])
    # t_j = -(row j · logits): the sum is at most minus the least of the weighted rows.
    weighted = (slopes[..., None] * rows).sum(1, keepdim=True)
    most = constants.sum(1) - lower_bounds(state, weighted)[:, 0]
    tiny = torch.finfo(most.dtype).tiny
    largest = largest[:, 0]
    return largest + torch.logaddexp(most.clamp(min=tiny).log(), -largest)


def chords(lower: Tensor, upper: Tensor, at: Tensor) -> Ends:
    """Slopes and constants of lines in t that lie above ``exp(t - shift)`` on an interval.

    Args:
        lower, upper: ends of the interval, less the shift.
        at: its lower end, where ``t`` is counted from.
    """
    length, low, high = upper - lower, lower.exp(), upper.exp()
    short = length < _SHORT
    slopes = torch.where(short, high, (high - low) / length.clamp(min=_SHORT))
    return slopes, low - slopes * at
