"""Repairs end with the same bits, whether their images are a tensor or are decoded when needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from suture.attacks import FGSM, PGD
from suture.data import dataset, stores
from suture.data.feeding import WORKERS
from suture.errors import ArgumentError
from suture.models import fingerprint
from suture.repairs import REPAIRS, RepairResult
from suture.repairs.certified_training.ramp import Ramp
from suture.repairs.certified_training.schedule import Schedule
from suture.repairs.dare import slice_classes
from suture.repairs.tuning import Grid, halves
from suture.rng import Stream
from suture.testing.small import digits, trained
from suture.types import LabelledImages

GRID = Grid(optimisers=("adam",), rates=(1e-3,), epochs=1)
SHORT = Schedule(epochs=1, ramp=Ramp(start=1, length=0), augment="shift")
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "pgd-training": ("pgd-training", {"epochs": 1, "steps": 1, "eps": 0.1, "limit": 100.0}),
    "searched": ("pgd-training", {"steps": 1, "eps": 0.1, "samples": 200, "grid": GRID}),
    "crown-ibp": ("crown-ibp", {"eps": 0.02, "schedule": SHORT}),
    "a5": ("a5-robustifier", {"eps": 0.02, "schedule": SHORT, "body": "small", "certificates": 2}),
    "smoothing": ("smoothing", {"epochs": 1, "samples": 300}),
    "dare": ("dare", {"retrain": 1, "samples": 300, "grid": GRID}),
    "adversarial": ("adversarial", {"attack": FGSM(eps=0.1), "samples": 300, "grid": GRID}),
    "advrepair": ("advrepair", {"attack": PGD(eps=0.05, steps=3), "samples": 2}),
    "weight-patch": ("weight-patch", {"samples": 40}),
}


def repaired(name: str) -> RepairResult:
    method, settings = METHODS[name]
    return REPAIRS[method](**settings)(trained(), digits(), generator=0)


@pytest.fixture
def decoded_by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is held as a tensor, and every image comes from a loader's worker."""
    monkeypatch.setattr(dataset, "RESIDENT", 0)
    monkeypatch.setattr(stores.Memory, "slow", property(lambda self: True))
    monkeypatch.setenv(WORKERS, "1")


@pytest.mark.parametrize("name", METHODS)
def test_the_same_weights(name: str, request: pytest.FixtureRequest) -> None:
    expected = repaired(name)
    request.getfixturevalue("decoded_by_workers")
    found = repaired(name)
    assert fingerprint(found.model) == fingerprint(expected.model)
    assert found.status is expected.status


def test_slices_are_the_same(decoded_by_workers: None) -> None:
    split = digits().train.select(torch.arange(300))
    lazy, held = (slice_classes(trained(), images) for images in (split, split.batch()))
    for node, values in held.delta.items():
        assert torch.equal(lazy.delta[node], values)


class Counted(stores.Memory):
    """Counts the images that are asked for."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__(images)
        self.asked = 0

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        self.asked += len(rows)
        return super().take(rows)


def lazily(images: LabelledImages) -> tuple[dataset.Split, Counted]:
    rows, store = torch.arange(len(images)), Counted(images.images)
    return dataset.Split("train", images.labels, rows, store, rows), store


def test_holding_out_decodes_nothing() -> None:
    split, store = lazily(digits().train.batch(100))
    looked, held = halves(split, 0.25, Stream(0))
    assert (len(looked), len(held), store.asked) == (75, 25, 0)
    assert torch.equal(held[:].images, halves(split.batch(), 0.25, Stream(0))[1].images)


def test_a_method_takes_the_few_that_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "RESIDENT", 0)
    split, store = lazily(digits().train.batch(1000))
    monkeypatch.setattr(dataset.Split, "known", property(lambda self: "named"))
    method = REPAIRS["defensyn"](attack=FGSM(eps=0.2), samples=20, programs_per_length=50)
    method(trained(), split, generator=0)
    assert 20 <= store.asked < 400


def test_what_needs_a_tensor_says_how_many_fit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dataset, "RESIDENT", 0)
    monkeypatch.setattr(dataset, "MOST", 50 * 256)
    method = REPAIRS["adversarial"](attack=FGSM(eps=0.1), grid=GRID)
    with pytest.raises(ArgumentError, match="samples=50"):
        method(trained(), digits(), generator=0)
