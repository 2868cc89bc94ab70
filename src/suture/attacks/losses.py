"""Losses per image that attacks raise: cross entropy and the difference of logits ratio."""

from __future__ import annotations

from torch import Tensor

from suture.attacks.geometry import margin
from suture.attacks.oracle import Loss, OfDraws
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

    return loss


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


LOSSES: dict[str, Loss] = {"ce": cross_entropies, "dlr": dlr, "margin": lead, "clipped": clipped}


def _need(classes: int, logits: Tensor) -> None:
    if logits.shape[1] < classes:
        raise ArgumentError(
            expected=f"at least {classes} classes for this loss",
            got=f"{logits.shape[1]}",
            remedy='Use loss="ce".',
        )
