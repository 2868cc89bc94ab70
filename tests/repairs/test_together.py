"""Several processes train as one does: the same draws, and the same weights up to sums."""

from __future__ import annotations

import copy
import importlib.util
from functools import partial
from typing import Any

import pytest
import torch

from suture.attacks import PGD
from suture.certify import certify_images
from suture.engine import Crew, Inline, Share
from suture.engine.together import launch
from suture.errors import ArgumentError
from suture.repairs import (
    NFGSM,
    TRADES,
    A5CoTraining,
    A5Physical,
    A5Robustifier,
    AdversarialTuning,
    Chain,
    CrownIBP,
    DefEnSyn,
    PGDTraining,
    Repair,
    Smoothing,
    repair,
)
from suture.repairs.a5 import Defence
from suture.repairs.certified_training import Ramp, Schedule
from suture.repairs.dare import Grid
from suture.testing.small import digits, trained
from suture.types import Batch

BRIEF: dict[str, Any] = {
    "eps": 0.05,
    "epochs": 2,
    "held_out": 0.2,
    "judged": 20,
    "judged_epochs": 1,
    "judge_steps": 2,
    "step_images": 50,
    "lr": 2e-3,
}
SHORT = Schedule(epochs=2, batch_size=50, optimiser="adam", step_at=(), ramp=Ramp(1, 1))
FULL = Schedule(epochs=1, batch_size=50, optimiser="adam", step_at=(), ramp=Ramp(1, 0))
A5: dict[str, Any] = {"eps": 0.02, "defence": Defence(0.1), "body": "small", "certificates": 0}
METHODS: list[Repair] = [
    PGDTraining(**BRIEF, steps=2, warm_up=0.5, awp=0.01, augment="flip-crop", clip=1.0),
    TRADES(**BRIEF, steps=2),
    NFGSM(**BRIEF),
    Smoothing(sigma=0.1, epochs=1, held_out=0.2, step_images=50),
    CrownIBP(eps=0.02, schedule=SHORT),
    A5Robustifier(**A5, schedule=FULL),
    A5CoTraining(**A5, alone=FULL, schedule=FULL),
    A5Physical(recipe="PC", schedule=FULL, draws=1, judged=1, certificates=0),
]


class Overheard(Inline):
    """An engine that remembers what it was given to train, and what came of it in this process."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[Any] = []
        self.results: list[Any] = []

    def together(self, body, crew, **how):
        self.bodies.append(copy.deepcopy(body))
        self.results.append(super().together(body, crew, **how))
        return self.results[-1]


def images(count: int = 250) -> Batch:
    return digits().train.batch(count)


def all_of_them(bodies: list[Any], share: Share) -> list[Any]:
    return [body(share) for body in bodies]


def tensors(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    """All of a tree of plain data."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    inner = [
        tensors(v, f"{name}/{k}") for k, v in items if isinstance(v, (dict, list, torch.Tensor))
    ]
    return {key: tensor for part in inner for key, tensor in part.items()}


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("lightning_fabric") is None,
    reason="lightning-fabric is missing: pip install 'suture[ddp]'",
)
def test_two_processes_give_the_weights_of_one():
    engine = Overheard()
    for method in METHODS:
        few = images(60) if isinstance(method, A5Physical) else images()
        repair(trained(), few, method, generator=3, engine=engine)
    assert len(engine.bodies) == len(METHODS) + 1, "RC trains twice"
    kept: list[Any] = []
    both = launch(
        partial(all_of_them, engine.bodies),
        Crew(2),
        tell=lambda *what: None,
        keep=kept.append,
    )
    for body, one, two in zip(engine.bodies, engine.results, both, strict=True):
        alone, shared = tensors(one), tensors(two)
        assert alone.keys() == shared.keys() and alone
        for name, value in alone.items():
            torch.testing.assert_close(
                shared[name], value, rtol=1e-3, atol=2e-4, msg=f"{body} {name}"
            )
    assert len(kept) == sum(
        method.epochs if hasattr(method, "epochs") else method.schedule.epochs for method in METHODS
    ) + 1  # fmt: skip


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (DefEnSyn(attack=PGD(eps=0.1)), "defensyn has no training that processes can share"),
        (AdversarialTuning(), "adversarial has no training"),
        (PGDTraining(**BRIEF, grid=Grid()), "pgd-training has no training"),
        (PGDTraining(**BRIEF, minutes=1.0), "epochs, where several processes train"),
        (PGDTraining(**BRIEF | {"step_images": 3}), "1 to 1 processes for batches of 3"),
        (CrownIBP(schedule=Schedule(batch_size=3)), "1 to 1 processes for batches of 3"),
        (Chain(methods=(DefEnSyn(attack=PGD(eps=0.1)),)), "chain has no training"),
    ],
)
def test_what_cannot_be_shared_says_so(method: Repair, message: str):
    with pytest.raises(ArgumentError, match=message):
        repair(trained(), images(100), method, processes=2)


def test_a_chain_shares_what_can_be_shared():
    chain = Chain(methods=(PGDTraining(), DefEnSyn(attack=PGD(eps=0.1))))
    assert chain.trains_together and not DefEnSyn(attack=PGD(eps=0.1)).trains_together


@pytest.mark.parametrize("wrong", [{"processes": 0}, {"checkpoint_minutes": 0.0}])
def test_wrong_crews_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ArgumentError, match=r"processes >= 1|minutes > 0"):
        repair(trained(), images(100), PGDTraining(**BRIEF), **wrong)


def test_bf16_wants_a_cuda_device():
    with pytest.raises(ArgumentError, match="a CUDA device, for bf16; got --device cpu"):
        repair(trained(), images(100), PGDTraining(**BRIEF, precision="bf16"))
    with pytest.raises(ArgumentError, match="precision"):
        PGDTraining(precision="fp16")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="precision"):
        CrownIBP(precision="bf16")  # type: ignore[call-arg]


def test_certificates_refuse_autocast():
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ArgumentError, match=r"got torch\.autocast, which rounds to 16 bits"),
    ):
        certify_images(trained(), images(2), 0.01, "ibp")
