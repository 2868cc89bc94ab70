"""Losses per image that attacks raise: cross entropy and the difference of logits ratio."""

from __future__ import annotations

from collections.abc import Callable

import torch
from numpy.typing import NDArray
from torch import Tensor

from suture.attacks import ascent_kernels
from suture.attacks.geometry import margin
from suture.attacks.loss_kinds import Alike, ClosedForm, Loss, OfDraws
from suture.attacks.steps import cross_entropies
from suture.errors import ArgumentError


def dlr(logits: Tensor, goals: Tensor) -> Tensor:
    """``-(z_y - max_{i≠y} z_i) / (z_π1 - z_π3)`` (Croce & Hein 2020, Eq. 6)."""
    _need(3, logits)
    ranked = logits.sort(dim=1, descending=True).values
    return -margin(logits, goals) / (ranked[:, 0] - ranked[:, 2] + 1e-12)


def dlr_towards(targets: Tensor) -> Loss:
    """``-(z_y - z_t) / (z_π1 - (z_π3 + z_π4)/2)`` for given targets t (Eq. 7)."""

    def loss(logits: Tensor, goals: Tensor) -> Tensor:
        _need(4, logits)
        ranked = logits.sort(dim=1, descending=True).values
        gap = logits.gather(1, goals[:, None]) - logits.gather(1, targets[:, None])
        return -gap[:, 0] / (ranked[:, 0] - 0.5 * (ranked[:, 2] + ranked[:, 3]) + 1e-12)

    return ClosedForm(loss, _compiled(ascent_kernels.dlr_towards, 4, targets))


def ahead(others: Tensor) -> Loss:
    """``z_other - z_y`` for given other classes, which is 0 on the boundary between the two."""

    def loss(logits: Tensor, goals: Tensor) -> Tensor:
        return (logits.gather(1, others[:, None]) - logits.gather(1, goals[:, None]))[:, 0]

    return ClosedForm(loss, _compiled(ascent_kernels.ahead, 2, others))


def lead(logits: Tensor, goals: Tensor) -> Tensor:
    """``max_{i≠y} z_i - z_y``: by how much the goal is missed; never saturates."""
    return -margin(logits, goals)


clipped = OfDraws(lambda logits, goals: lead(logits, goals).clamp_max(0))
"""Mean over the draws of ``min(0, max_{i≠y} z_i - z_y)``: only draws that still hold count."""

clipped_towards = OfDraws(lambda logits, goals: lead(logits, goals).clamp_min(0))
"""The same for a target: to be lowered, and only draws that still miss it count."""


def negated(loss: Loss) -> Loss:
    """Falls where ``loss`` rises: towards the goal instead of away from it."""
    if loss is clipped:
        return negated(clipped_towards)
    if isinstance(loss, OfDraws):
        return OfDraws(lambda logits, goals: -loss.function(logits, goals))
    return lambda logits, goals: -loss(logits, goals)


def _compiled(
    kernel: Callable[..., None], classes: int, *others: Tensor
) -> Callable[[Tensor, Tensor, NDArray], tuple[Tensor, Tensor]]:
    def slopes(draws: Tensor, goals: Tensor, odds: NDArray) -> tuple[Tensor, Tensor]:
        _need(classes, draws)
        values, found = torch.empty(draws.shape[:2]), torch.empty_like(draws)
        given = (t.numpy() for t in (draws, goals, *others))
        kernel(*given, odds, values.numpy(), found.numpy())
        return values, found

    return slopes


LOSSES: dict[str, Loss] = {
    "ce": Alike(cross_entropies),
    "dlr": ClosedForm(dlr, _compiled(ascent_kernels.dlr, 3)),
    "margin": lead,
    "clipped": clipped,
}


def _need(classes: int, logits: Tensor) -> None:
    if logits.shape[-1] < classes:
        raise ArgumentError(
            expected=f"at least {classes} classes for this loss",
            got=f"{logits.shape[-1]}",
            remedy='Use loss="ce".',
        )
