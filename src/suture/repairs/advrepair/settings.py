"""What a repair was told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from suture.bounds import Method


@dataclass(frozen=True, kw_only=True)
class RepairSettings:
    """What ``AdvRepair`` was told, for one repair; see there."""

    hidden: tuple[int, ...]
    guidance: Literal["property", "untargeted", "targeted"]
    rounds: int
    epochs: int
    split: int
    optimiser: Literal["adam", "gd"]
    rate: float
    cuts: int
    start: float
    margin: float
    most: int
    at: str | None
    feature_samples: int
    method: Method
