"""A radius in grey levels is refused with the fraction that was meant, wherever one is taken."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from suture import repairs
from suture.attacks import Attack
from suture.errors import ArgumentError
from suture.repairs import AdvRepair, Repair
from suture.repairs.a5 import Defence
from suture.types import Box, ThreatModel
from tests.contract.test_attacks import ATTACKS

MEANT = r"8/255 = 0\.03137"
LINF = {type(attack): attack for attack in ATTACKS if "linf" in attack.norms}
METHODS = [getattr(repairs, name) for name in repairs.__all__]
RADII = [
    (method, field.name)
    for method in METHODS
    if isinstance(method, type) and dataclasses.is_dataclass(method) and issubclass(method, Repair)
    for field in dataclasses.fields(method)
    if field.name.startswith("eps")
]


def test_threats_and_boxes():
    with pytest.raises(ArgumentError, match=MEANT):
        ThreatModel(eps=8)
    with pytest.raises(ArgumentError, match=MEANT):
        Box.around(torch.rand(1, 1, 2, 2), 8)
    assert ThreatModel(norm="l2", eps=8).eps == 8, "longer than a side, and no mistake"
    assert ThreatModel(eps=1).eps == 1 and ThreatModel(eps=float("inf")).eps == float("inf")


@pytest.mark.parametrize("attack", LINF.values(), ids=lambda attack: type(attack).__name__)
def test_attacks(attack: Attack):
    with pytest.raises(ArgumentError, match=MEANT):
        dataclasses.replace(attack, norm="linf", eps=8)


@pytest.mark.parametrize(
    ("method", "field"), RADII, ids=lambda part: getattr(part, "__name__", part)
)
def test_repairs(method: type[Repair], field: str):
    with pytest.raises(ArgumentError, match=MEANT):
        method(**{field: 8})


def test_a_repair_inherits_its_attacks_radius():
    assert len(RADII) >= 7
    attack = AdvRepair().attack
    with pytest.raises(ArgumentError, match=MEANT):
        AdvRepair(attack=dataclasses.replace(attack, eps=8))
    with pytest.raises(ArgumentError, match=MEANT):
        Defence(8)
