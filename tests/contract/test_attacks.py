"""Every attack under the contract; those without a line here meet it with their defaults."""

from __future__ import annotations

import pytest

from suture import attacks as package
from suture.attacks import (
    AIGENT,
    APGD,
    BIM,
    CW,
    FAB,
    FGSM,
    JSMA,
    PGD,
    SPSA,
    Attack,
    AutoAttack,
    Backdoor,
    BasinHopping,
    DeepFool,
    DeepXplore,
    DLFuzz,
    HopSkipJump,
    OnePixel,
    Pixle,
    RandomNoise,
    SparseRS,
    Square,
)
from suture.testing import AttackContract

ATTACKS: list[Attack] = [
    PGD(norm="linf", eps=0.05, steps=7),
    PGD(norm="l2", eps=0.5, steps=7, restarts=2),
    PGD(norm="linf", eps=0.05, steps=5, random_start=False, eot=3),
    Square(norm="linf", eps=0.05, queries=40),
    Square(norm="l2", eps=0.5, queries=40),
    Square(norm="linf", eps=0.05, queries=40, eot=3, early_stop=False),
    FGSM(norm="linf", eps=0.05),
    FGSM(norm="l2", eps=0.5),
    BIM(norm="linf", eps=0.05),
    PGD(norm="l1", eps=3.0, steps=7, sparsity=0.9),
    CW(steps=12, binary_search_steps=3, initial_const=1.0, learning_rate=0.05),
    CW(steps=12, binary_search_steps=2, initial_const=1.0, eps=0.5),
    DeepFool(norm="l2"),
    DeepFool(norm="linf", eps=0.05),
    APGD(norm="linf", eps=0.05, steps=12),
    APGD(norm="l2", eps=0.5, steps=12, loss="dlr", restarts=2),
    APGD(norm="linf", eps=0.03, steps=12, loss="dlr-targeted", eot=2, eot_of="losses"),
    APGD(norm="l2", eps=0.3, steps=12, loss="margin-targeted", classes=2),
    BasinHopping(norm="linf", eps=0.05, hops=4, steps=5, probes=3, classes=2),
    BasinHopping(norm="l2", eps=0.5, hops=4, steps=5, redrawn=0.5, probes=0, classes=2),
    BasinHopping(norm="l1", eps=3.0, hops=3, steps=5, probes=4, classes=1, eot=2),
    JSMA(),
    JSMA(eps=12, theta=-0.5, gamma=0.5),
    SPSA(norm="linf", eps=0.05, steps=4, samples=6),
    SPSA(norm="l2", eps=0.5, steps=4, samples=6),
    OnePixel(eps=2, population=8, generations=4),
    Pixle(restarts=3, iterations=4, x_dimensions=(1, 3), y_dimensions=(2, 3)),
    Pixle(eps=6, restarts=6, x_dimensions=(1, 3), update_each_iteration=True),
    SparseRS(eps=4, queries=40),
    SparseRS(eps=9, queries=40, shape="patch"),
    SparseRS(eps=24, queries=40, shape="frame", eot=2),
    HopSkipJump(norm="l2", steps=3, probes=8, eps=1.0),
    HopSkipJump(norm="linf", steps=3, probes=8),
    Backdoor(patch=((1.0,) * 6,) * 7),
    Backdoor(patch=((0.0, 1.0), (1.0, 0.0)), place=(1, 2), blend=0.9),
    RandomNoise(norm="linf", eps=0.1),
    RandomNoise(norm="l2", eps=1.0, queries=5),
    AIGENT(),
    AIGENT(eps=9, channels="apart", max_change=0.5, classes=3),
    AIGENT(eps=3, method="milp", patches=False, polish=0, candidates=0),
    FAB(norm="linf", eps=0.05, steps=8),
    FAB(norm="l2", steps=6),
    FAB(norm="l1", eps=3.0, steps=6, by_class=True, eot=2),
    FAB(norm="linf", eps=0.03, steps=6, by_class=True, classes=2),
    APGD(norm="l1", eps=3.0, steps=12),
    APGD(norm="l1", eps=2.0, steps=12, loss="dlr-targeted", decreasing=False, restarts=2),
    Square(norm="l1", eps=3.0, queries=40),
    AutoAttack(norm="linf", eps=0.03, steps=8, queries=40),
    AutoAttack(norm="l2", eps=0.3, steps=8, queries=40, version="plus"),
    AutoAttack(norm="l1", eps=2.0, steps=8, queries=40),
    AutoAttack(norm="linf", eps=0.03, steps=5, version="rand", eot=3),
    DLFuzz(norm="linf", eps=0.05, steps=5),
    DLFuzz(norm="l2", eps=0.5, steps=4, eot=2),
    DeepXplore(norm="linf", eps=0.05, steps=5),
]
known = {type(attack) for attack in ATTACKS}
ATTACKS += [kind() for kind in package.ATTACKS.values() if kind not in known]
every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=repr)


class TestAttacks(AttackContract):
    attacks = ATTACKS
