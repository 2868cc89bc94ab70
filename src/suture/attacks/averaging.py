"""The attack of someone who knows that the model draws at random."""

from __future__ import annotations

import dataclasses
from typing import Any

from suture.attacks.base import Attack


def averaging(attack: Attack, draws: int) -> Attack:
    """The attack with every query averaged over draws, and not fooled by one lucky draw.

    Expectation over transformation (Athalye et al. 2018, arXiv:1802.00420). Where an attack has a
    budget of ``queries``, it grows ``draws`` times, so that the number of candidates stays; where
    it has an early stop, it goes without.

    Args:
        attack: any attack.
        draws: how many forwards a candidate is averaged over.
    """
    fields = {field.name for field in dataclasses.fields(attack)}
    changes: dict[str, Any] = {"eot": draws}
    if "queries" in fields:
        changes["queries"] = attack.queries * draws  # type: ignore[attr-defined]
    if "early_stop" in fields:
        changes["early_stop"] = False
    return dataclasses.replace(attack, **changes)
