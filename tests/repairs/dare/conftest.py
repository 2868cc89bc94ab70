"""A small trained network with its history, and threads that do not wait for each other."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch import nn

from suture import models
from suture.testing.small import digits
from suture.training import TrainConfig, train

_KEPT: list[TemporaryDirectory] = []


@cache
def with_history() -> tuple[nn.Module, Path]:
    """``digits_cnn`` after six epochs, and the folder that remembers them. Do not change either."""
    _KEPT.append(TemporaryDirectory())
    folder = Path(_KEPT[-1].name) / "history"
    model = models.build("digits_cnn", mean=digits().mean, std=digits().std, seed=1)
    config = TrainConfig(epochs=6, lr=1e-3)
    return train(model, digits(), config=config, seed=2, history=folder).model, folder


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
