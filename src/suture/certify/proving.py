"""Proofs in float64 by ``suture.bounds``, and certificates from them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from suture import bounds
from suture.bounds import Method, Network
from suture.certify.certificate import Certificate
from suture.models import fingerprint
from suture.types import Box, described

SLACK = 1e-9
"""Outward slack, relative to the size of the terms: above 1 000 times what float64 loses in sums
of 10 000 of them."""


def network64(model: nn.Module, in_shape: tuple[int, ...]) -> Network:
    """A model's network with float64 constants."""
    return bounds.read(model, in_shape).to(torch.float64)


def prove(
    network: Network | nn.Module, box: Box, rows: Tensor, add: Tensor, method: Method = "crown"
) -> Tensor:
    """Lower bounds of ``rows · F(x) + add`` over boxes, in float64, minus the slack.

    Args:
        network: a model, or its float64 network.
        box: ``(n, *in_shape)``.
        rows: ``(n or 1, k, classes)``.
        add: ``(n or 1, k)``.

    Returns:
        float64 ``(n, k)``; -inf where nothing is known.
    """
    wide = Box(box.lower.double(), box.upper.double())
    if isinstance(network, nn.Module):
        network = network64(network, tuple(wide.lower.shape[1:]))
    with torch.no_grad():
        found = bounds.bounds_of(network, wide, rows.double(), method) + add.double()
    return found - SLACK * (1 + found.abs() + add.double().abs())


def certify_box(
    model: nn.Module,
    lower: Tensor,
    upper: Tensor,
    rows: Tensor,
    add: Tensor,
    *,
    method: Method = "crown",
    note: dict[str, Any] | None = None,
) -> Certificate | None:
    """A certificate for one box, or ``None`` where the method cannot prove the claim.

    Args:
        model: the classifier; one with ``certify_parts(lower, upper)`` is proved part by part.
        lower, upper: shape of one input.
        rows: ``(k, classes)``.
        add: ``(k,)``.
    """
    box = Box(lower[None].double(), upper[None].double())
    found = [
        float(prove(part, box, rows[None], add[None], method).min())
        for part in parts_of(model, lower, upper)
    ]
    if not found or min(found) <= 0:
        return None
    return Certificate(
        lower.double().cpu(),
        upper.double().cpu(),
        rows.double().cpu(),
        add.double().cpu(),
        min(found),
        method,
        fingerprint(model),
        note or {},
    )


def parts_of(model: nn.Module, lower: Tensor, upper: Tensor) -> list[nn.Module]:
    """Every network that may answer for an input of the box: the model itself, unless it says
    otherwise."""
    return described(model).certify_parts(lower, upper)


def subject_of(model: nn.Module) -> nn.Module:
    """The network that a model's certificates speak of: the model, unless it hands its input on
    to another one first and says so (A5: certificates are about robustified images)."""
    return described(model).certified_part()
