"""Tiny networks and tiny data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from suture import data


class Tiny(nn.Module):
    """A net with everything that carries state: dropout, batch normalisation, a frozen layer."""

    def __init__(self, seed: int = 0, classes: int = 10) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.flat = nn.Flatten()
            self.hidden = nn.Linear(64, 24)
            self.norm = nn.BatchNorm1d(24)
            self.drop = nn.Dropout(0.2)
            self.out = nn.Linear(24, classes)
        self.register_buffer("scale", torch.tensor(1.0))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.drop(torch.relu(self.norm(self.hidden(self.flat(images)))))
        return self.out(hidden) * self.scale * self.frozen


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads on so tiny tensors only wait for each other, for minutes on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny() -> Tiny:
    return Tiny()


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture(scope="session")
def few(tmp_path_factory) -> data.Dataset:
    """About two hundred digits: epochs of milliseconds."""
    images, labels = data.load("digits").train.arrays()
    path = tmp_path_factory.mktemp("few") / "few.npz"
    np.savez(path, images=images[:240].numpy(), labels=labels[:240].numpy())
    return data.load(path)


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    states = first.state_dict(), second.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])
