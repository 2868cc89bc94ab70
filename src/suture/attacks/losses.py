"""Losses per image that attacks raise: cross entropy and the difference of logits ratio."""

from __future__ import annotations

from torch import Tensor

from suture.attacks.geometry import margin
from suture.attacks.oracle import Loss
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


def negated(loss: Loss) -> Loss:
    """Falls where ``loss`` rises: towards the goal instead of away from it."""
    return lambda logits, goals: -loss(logits, goals)


LOSSES: dict[str, Loss] = {"ce": cross_entropies, "dlr": dlr}


def _need(classes: int, logits: Tensor) -> None:
    if logits.shape[1] < classes:
        raise ArgumentError(
            expected=f"at least {classes} classes for this loss",
            got=f"{logits.shape[1]}",
            remedy='Use loss="ce".',
        )
