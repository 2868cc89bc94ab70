"""Real networks and the images that they get right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from suture import data, models
from suture.types import Batch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def network() -> Callable[[str], nn.Module]:
    """``network("kw_mnist_eps0.1")``, out of the data folder."""
    folder = data.folder()
    if folder is None:
        pytest.skip("needs the data folder: set SUTURE_DATA")
    return lambda name: models.load(folder / "nets" / f"{name}.onnx")


@pytest.fixture(scope="session")
def right_images(network: object) -> Callable[[nn.Module, str, int], Batch]:
    """The first n test images of a data set that a model classifies right."""
    sets: dict[str, Batch] = {}

    def choose(model: nn.Module, name: str, n: int) -> Batch:
        if name not in sets:
            test = data.load(name).test
            sets[name] = test.select(test.index < 2000).batch()
        batch = sets[name]
        with torch.no_grad():
            right = torch.cat([model(piece.images).argmax(1) for piece in batch.split(500)])
        return batch[(right == batch.labels).nonzero()[:n, 0]]

    return choose
