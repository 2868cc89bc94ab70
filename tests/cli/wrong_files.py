"""Files as newcomers have them, that do not fit: for the table of wrong inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from suture import models
from suture.testing.small import trained

_RANDOM = np.random.default_rng(0)


class Own(nn.Module):
    """Somebody's network, whose class is not where suture is."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.flatten(1))


def write(place: Path) -> None:
    """All of them, into a folder."""
    models.save(trained(), place / "digits")
    models.save(models.build("cnn"), place / "mnist-net")
    models.save(models.build("conv_cifar"), place / "cifar-net")
    _weights(place)
    _pictures(place)
    _arrays(place)
    (place / "own.py").write_text(
        "def make():\n    return missing\n\ndef number():\n    return 7\n\n"
        "def broken(width):\n    return None\n"
    )
    (place / "text.txt").write_text("this is no model")
    (place / "text.onnx").write_text("this is no model")
    (place / "there.onnx").write_text("something that must not be lost")
    (place / "folder").mkdir()
    (place / "full").mkdir()
    (place / "full" / "diary.txt").write_text("mine")


def _weights(place: Path) -> None:
    net = Own().eval()
    torch.save(net, place / "whole.pt")
    torch.save(net.state_dict(), place / "state.pt")
    torch.jit.script(net).save(place / "script.pt")
    save_file(models.build("cnn").state_dict(), place / "cnn.safetensors")
    save_file(models.build("digits_cnn").state_dict(), place / "digits.safetensors")


def _pictures(place: Path) -> None:
    for folder, shape, mode in (
        ("colour", (8, 8, 3), "RGB"),
        ("grey", (8, 8), "L"),
        ("large", (32, 32), "L"),
    ):
        for name in ("ant", "bee"):
            (place / folder / name).mkdir(parents=True)
            for index in range(10):
                pixels = _RANDOM.integers(0, 255, shape, dtype=np.uint8)
                Image.fromarray(pixels, mode).save(place / folder / name / f"{index}.png")
    (place / "mixed" / "ant").mkdir(parents=True)
    for index in range(3):
        Image.new("L", (8 + index, 8)).save(place / "mixed" / "ant" / f"{index}.png")
    (place / "flat").mkdir()
    Image.new("L", (8, 8)).save(place / "flat" / "0.png")


def _arrays(place: Path) -> None:
    images, labels = _RANDOM.random((40, 1, 8, 8), dtype=np.float32), np.arange(40) % 10
    np.savez(place / "test-only.npz", x_test=images, y_test=labels)
    np.savez(place / "train-only.npz", x_train=images, y_train=labels)
    np.savez(place / "no-labels.npz", images=images)
    np.savez(place / "bytes.npz", images=255 * images, labels=labels)
    np.savez(place / "normalised.npz", images=4 * images - 2, labels=labels)
    np.savez(place / "one-hot.npz", images=images, labels=np.eye(10)[labels])
    np.savez(place / "short.npz", images=images, labels=labels[:7])
    np.savez(place / "many.npz", images=images, labels=np.arange(40) % 12)
    np.savez(place / "alpha.npz", images=np.zeros((40, 8, 8, 4), np.uint8), labels=labels)
    np.save(place / "plain.npy", images)
