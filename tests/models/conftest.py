"""Where the real networks and images lie, and small helpers on them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


def find_data() -> Path | None:
    """The data folder: ``SUTURE_DATA``, or ``shared/data`` beside the checkout."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("SUTURE_DATA", beside))
    return folder if (folder / "nets" / "index.json").is_file() else None


@pytest.fixture(scope="session")
def data_folder() -> Path:
    folder = find_data()
    if folder is None:
        pytest.skip("needs the data folder: set SUTURE_DATA")
    return folder


@pytest.fixture(scope="session")
def images_of(data_folder):
    """``images_of("mnist")`` → float32 (n, c, h, w) in [0, 1] and labels; read once."""
    cache = {}

    def read(name: str):
        if name not in cache:
            cache[name] = _read(data_folder, name)
        return cache[name]

    return read


def _read(folder: Path, name: str):
    if name == "cifar10":
        return _first_hundred_lossless(folder / "cifar10_lossless.npz")
    with np.load(folder / f"{name}.npz") as file:
        pixels, labels = file["x_test"], file["y_test"]
    return torch.from_numpy(pixels)[:, None].float() / 255, torch.from_numpy(labels)


def _first_hundred_lossless(path: Path):
    """CIFAR-10's test images 0 … 99, cut out of the PNG sheet (64 tiles a row)."""
    import io

    from PIL import Image

    with np.load(path) as file:
        sheet = np.asarray(Image.open(io.BytesIO(file["png"].tobytes())))
        index, labels = file["index_test"], file["y_test"]
    chosen = np.flatnonzero(index < 100)
    chosen = chosen[np.argsort(index[chosen])]
    tiles = [divmod(4000 + int(i), 64) for i in chosen]
    images = np.stack([sheet[32 * r : 32 * r + 32, 32 * c : 32 * c + 32] for r, c in tiles])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255
    return x, torch.from_numpy(labels[chosen])


@pytest.fixture
def rand():
    """Random images of a shape, the same in every run."""

    def make(*shape: int, seed: int = 0) -> torch.Tensor:
        return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))

    return make
