"""The attack of someone who has the defence's code, weights and programs, but not its next draw."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from suture.attacks.base import Attack

Chosen = TypeVar("Chosen", bound=Attack)


def knowing(attack: Chosen, draws: int = 50) -> Chosen:
    """The attack with ``adaptive=True``: queries are exact means, or means of common draws.

    Args:
        attack: any attack.
        draws: forwards that a query averages where the model has no finite support (expectation
            over transformation, Athalye et al. 2018, arXiv:1802.00420).
    """
    return dataclasses.replace(attack, adaptive=True, eot=draws)
