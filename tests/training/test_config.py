"""Hyper-parameters and the learning rate's course."""

from __future__ import annotations

import pytest

from suture.errors import ArgumentError
from suture.training import TrainConfig
from suture.training.config import learning_rate


def test_cosine_by_hand():
    config = TrainConfig(epochs=4, lr=0.8, schedule="cosine")
    assert learning_rate(config, 1, 0.0) == 0.8
    assert learning_rate(config, 3, 0.0) == pytest.approx(0.4)
    assert learning_rate(config, 2, 0.0) == pytest.approx(0.8 * (1 + 0.5**0.5) / 2)
    assert learning_rate(config, 4, 0.999) == pytest.approx(0, abs=1e-6)


def test_steps_as_a5_takes_them():
    """RMSprop 1e-3, times 0.1 after epochs 25 and 42."""
    config = TrainConfig(epochs=100, lr=1e-3, schedule="step", step_at=(25, 42))
    rates = [learning_rate(config, epoch, 0.5) for epoch in (1, 25, 26, 42, 43, 100)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_no_schedule_stays():
    config = TrainConfig(lr=0.1, schedule="none")
    assert {learning_rate(config, epoch, 0.3) for epoch in (1, 20)} == {0.1}


@pytest.mark.parametrize(
    "arguments",
    [
        {"epochs": 0},
        {"epochs": 2.5},
        {"batch_size": 0},
        {"optimiser": "adamax"},
        {"schedule": "linear"},
        {"schedule": "step"},
        {"step_at": (0,)},
        {"augment": "mixup"},
        {"lr": 0},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"weight_decay": -1},
        {"momentum": 1.0},
        {"patience": -1},
        {"label_smoothing": 1.0},
        {"step_factor": 0},
    ],
    ids=str,
)
def test_senseless_values_are_refused(arguments):
    with pytest.raises(ArgumentError, match=next(iter(arguments)).split("_")[0]):
        TrainConfig(**arguments)
