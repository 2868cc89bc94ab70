"""Every repair under the contract; those without a line here meet it with their defaults."""

from __future__ import annotations

import pytest

from suture import repairs as package
from suture.attacks import PGD, Square
from suture.auto import Auto
from suture.evaluate import Tier
from suture.repairs import (
    APRNN,
    ART,
    CARE,
    DARE,
    NFGSM,
    PRDNN,
    REASSURE,
    TRADES,
    A5CoTraining,
    A5Offline,
    A5Physical,
    A5Robustifier,
    AdversarialTuning,
    AdvRepair,
    Chain,
    CrownIBP,
    DefEnSyn,
    DefEnSynGame,
    DenoisedSmoothing,
    PGDTraining,
    RandomisedAblation,
    Repair,
    Smoothing,
    WeightPatch,
    repair,
)
from suture.repairs.a5 import Defence
from suture.repairs.certified_training import Ramp, Schedule
from suture.repairs.dare import Grid
from suture.testing import RepairContract
from suture.testing.repairs import repaired, training
from suture.testing.small import trained
from suture.types import described

BRIEF = Schedule(
    epochs=2, batch_size=50, optimiser="adam", step_at=(), ramp=Ramp(start=1, length=1)
)
REPAIRS: list[Repair] = [
    DefEnSyn(
        attack=Square(eps=0.15, queries=60),
        samples=120,
        k=5,
        max_length=2,
        programs_per_length=3_000,
        temperature=20.0,
    ),
    DefEnSyn(
        attack=PGD(eps=0.1, steps=5),
        samples=80,
        k=1,
        max_length=1,
        programs_per_length=2_000,
        distribution="uniform",
    ),
    DefEnSyn(
        attack=Square(eps=0.15, queries=30),
        also=(PGD(eps=0.05, steps=2),),
        samples=60,
        k=3,
        max_length=1,
        programs_per_length=500,
        rounds=1,
        eot=2,
        held_out=30,
    ),
    DefEnSynGame(
        attack=PGD(eps=0.15, steps=4, restarts=3),
        samples=60,
        rounds=2,
        k=9,
        added=5,
        max_length=1,
        programs_per_length=800,
        margins=0.5,
        longest=16,
        affine=2,
        refine=1,
        limit=9.0,
    ),
    AdvRepair(attack=PGD(eps=0.1, steps=5), samples=12),
    AdvRepair(attack=PGD(eps=0.1, steps=5), samples=40, guidance="untargeted", patch="large"),
    AdvRepair(
        attack=PGD(eps=0.1, steps=5), samples=6, at="penultimate", rounds=2, feature_samples=20
    ),
    WeightPatch(attack=PGD(eps=0.1, steps=5), samples=60, keep=100),
    WeightPatch(
        attack=PGD(eps=0.1, steps=5), samples=20, keep=40, size="l1", decoupled=True, layer="1"
    ),
    PRDNN(attack=PGD(eps=0.1, steps=5), samples=8),
    APRNN(attack=PGD(eps=0.1, steps=5), samples=8),
    REASSURE(attack=PGD(eps=0.1, steps=5), samples=2, sharpness=0.01),
    CARE(attack=PGD(eps=0.1, steps=5), samples=12, iterations=8),
    ART(attack=PGD(eps=0.02, steps=5), samples=4, epochs=2, images=200),
    DARE(retrain=2, grid=Grid(rates=(1e-2,), epochs=2)),
    AdversarialTuning(attack=PGD(eps=0.1, steps=5), grid=Grid(rates=(1e-3,), epochs=2)),
    TRADES(eps=0.1, steps=3, grid=Grid(rates=(1e-3,), epochs=1), judged=60),
    CrownIBP(eps=0.02, schedule=BRIEF),
    A5Offline(eps=0.01, defence=Defence(0.1), samples=60, steps=3, certificates=3),
    A5Robustifier(
        eps=0.01, defence=Defence(0.1), body="small", schedule=BRIEF, certificates=3
    ),
    A5CoTraining(
        eps=0.01, defence=Defence(0.5, "l2"), body="small", alone=BRIEF, schedule=BRIEF,
        certificates=3,
    ),
    A5Physical(
        recipe="PC", eps=0.01, defence=Defence(0.1), schedule=BRIEF, draws=2, judged=1,
        certificates=3,
    ),
    PGDTraining(eps=0.1, steps=3, grid=Grid(rates=(1e-3,), epochs=1), judged=60),
    PGDTraining(eps=0.1, epochs=3, held_out=0.15, judged=40, step_images=64),
    TRADES(eps=0.1, epochs=3, layers=2, awp=0.005, held_out=0.15, judged=40, step_images=64),
    NFGSM(eps=0.1, epochs=3, held_out=0.15, judged=40, step_images=64),
    Chain(methods=(
        NFGSM(eps=0.1, epochs=2, held_out=0.15, judged=40, step_images=64),
        DefEnSyn(
            attack=Square(eps=0.1, queries=30), samples=60, k=3, max_length=1,
            programs_per_length=500,
        ),
    )),
    Auto(eps=0.1, epochs=1, judged=10, attacker=Tier(steps=2, queries=5)),
    Smoothing(sigma=0.2, epochs=2, votes=16, held_out=0.15, step_images=64),
    DenoisedSmoothing(
        sigma=0.2, epochs=2, votes=16, held_out=0.15, step_images=64, depth=3, width=8
    ),
    RandomisedAblation(keep=40, epochs=6, votes=16, held_out=0.15, step_images=64),
]  # fmt: skip
known = {type(method) for method in REPAIRS}
REPAIRS += [kind() for kind in package.REPAIRS.values() if kind not in known]
every_repair = pytest.mark.parametrize(
    "method", REPAIRS, ids=lambda m: f"{type(m).__name__}-{REPAIRS.index(m)}"
)


class TestRepairs(RepairContract):
    repairs = REPAIRS
    seedless = (A5Offline, Auto)


@every_repair
def test_only_robustifiers_move_images(method: Repair):
    moves = isinstance(method, (A5Robustifier, A5CoTraining))
    assert (described(repaired(method).model).preemptive() is not None) == moves


@pytest.mark.slow
@pytest.mark.parametrize("method", REPAIRS, ids=lambda method: type(method).__name__)
def test_everyone_says_how_far_he_is(method: Repair):
    heard: list[tuple[str, int, int]] = []
    repair(trained(), training(), method, generator=3, on_progress=lambda *at: heard.append(at))
    assert heard, "a log would be silent for as long as this takes"
    assert all(0 <= done <= total for _, done, total in heard)
    assert any(done == total for _, done, total in heard), "some stage comes to its end"
