"""How many threads torch uses depends on the network, and on what the user says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from suture import models
from suture.engine.threads import (
    available_cores,
    threads,
    threads_for,
    torch_threads,
    use_fitting_threads,
)

MLP = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256))


@pytest.mark.parametrize(("name", "small"), [("digits_cnn", True), ("cnn", True), ("vgg16", False)])
def test_small_networks_get_one_thread(name: str, small: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    shape = {"digits_cnn": (1, 8, 8), "cnn": (1, 28, 28), "vgg16": (3, 32, 32)}[name]
    with torch_threads(torch.get_num_threads()):
        assert use_fitting_threads(models.build(name), shape) == (1 if small else available_cores())


def test_the_environment_overrules(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with torch_threads(2):
        assert use_fitting_threads(models.build("digits_cnn"), (1, 8, 8)) == 2


def _inside(images: int) -> int:
    model, shape = MLP, (1, 28, 28)
    use_fitting_threads(model, shape)
    with threads_for(model, torch.zeros(2, *shape), images):
        return torch.get_num_threads()


@pytest.mark.parametrize(("images", "all_of_them"), [(1, False), (256, True)])
def test_training_steps_take_the_threads_put_aside(
    images: int, all_of_them: bool, monkeypatch: pytest.MonkeyPatch
):
    """An MLP with 0.54 million operations an image: 256 of them are a large call."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("suture.engine.threads.available_cores", lambda: 2)
    with torch_threads(1):
        assert _inside(images) == (2 if all_of_them else 1)
        assert torch.get_num_threads() == 1


def test_limited_work_takes_none(monkeypatch: pytest.MonkeyPatch):
    """Nothing is aside where the environment, an engine or a caller limits the threads."""
    model, images = MLP, torch.zeros(2, 1, 28, 28)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("suture.engine.threads.available_cores", lambda: 2)
    with torch_threads(1):
        use_fitting_threads(model, (1, 28, 28))
        with threads(1), threads_for(model, images, 256):
            assert torch.get_num_threads() == 1
        with threads_for(model, images, 256):
            assert torch.get_num_threads() == 2
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert _inside(256) == 1
