"""Networks that the bounds tests share, and a plain CROWN written from the paper's equations."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


class Residual(nn.Module):
    """Two branches of different reach that meet again, then a strided identity link."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 3, 3, 1, 1), nn.BatchNorm2d(3), nn.ReLU())
        self.long = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 1, 1))
        self.short = nn.Conv2d(3, 4, 1, 2)
        self.next = nn.Conv2d(4, 4, 3, 1, 1)
        self.tail = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(self.long(x) + self.short(x))
        return self.tail(self.next(x) + x[:, :, ::1, ::1])


def networks() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Small untrained networks by name, with the shape of their inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = {
            "dense": (
                nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 9),
                              nn.LeakyReLU(0.1), nn.Linear(9, 3)),
                (1, 4, 4),
            ),
            "convolutions": (
                nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.ReLU(), nn.Conv2d(3, 4, 3, 2, 1),
                              nn.ReLU(), nn.Conv2d(4, 4, 3, 1, 1, groups=2), nn.ReLU(),
                              nn.Flatten(), nn.Linear(16, 3)),
                (1, 8, 8),
            ),
            "pools": (
                nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
                              nn.Conv2d(3, 3, 2, dilation=2), nn.ReLU(),
                              nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(12, 3)),
                (1, 9, 9),
            ),
            "tiled pools": (
                nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                              nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(),
                              nn.MaxPool2d(2, ceil_mode=True), nn.Conv2d(3, 3, 2), nn.ReLU(),
                              nn.Flatten(), nn.Linear(12, 3)),
                (1, 10, 10),
            ),
            "s-shaped": (
                nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1),
                              nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 8),
                              nn.Tanh(), nn.Linear(8, 3)),
                (1, 4, 4),
            ),
            "residual": (Residual(), (1, 8, 8)),
        }  # fmt: skip
        for model, _ in made.values():
            for layer in model.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    nn.init.uniform_(layer.running_mean, -0.5, 0.5)
                    nn.init.uniform_(layer.running_var, 0.5, 2.0)
                    nn.init.uniform_(layer.weight, -1.0, 1.0)
    return {name: (model.eval(), shape) for name, (model, shape) in made.items()}


def plain_crown(weights, biases, lower, upper):
    """Bounds of a dense ReLU network for one box, neuron by neuron (Zhang et al. 2018, Thm 3.2)."""
    known = []
    for depth in range(1, len(weights) + 1):
        low = np.empty(len(biases[depth - 1]))
        high = np.empty_like(low)
        for neuron in range(len(low)):
            for sign, out in ((1.0, low), (-1.0, high)):
                row, const = sign * weights[depth - 1][neuron], sign * biases[depth - 1][neuron]
                for layer in range(depth - 2, -1, -1):
                    before, new = known[layer], np.zeros(len(row))
                    for k in range(len(row)):
                        lo, up = before[0][k], before[1][k]
                        if lo >= 0:
                            new[k] = row[k]
                        elif up > 0 and row[k] < 0:
                            slope = up / (up - lo)
                            new[k], const = row[k] * slope, const - row[k] * slope * lo
                        elif up > 0:
                            new[k] = row[k] * (1.0 if up > -lo else 0.0)
                    const, row = const + new @ biases[layer], new @ weights[layer]
                value = const + np.where(row > 0, row * lower, row * upper).sum()
                out[neuron] = sign * value
        known.append((low, high))
    return known[-1]


def dense_parts(model):
    """Weights and biases of a chain as float64 arrays."""
    layers = [m for m in model if isinstance(m, nn.Linear)]
    return (
        [m.weight.detach().double().numpy() for m in layers],
        [m.bias.detach().double().numpy() for m in layers],
    )


def points(box, count, seed=0):
    """Points of a box and its corners ``(2 · count, n, *shape)``."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(count, *box.lower.shape, generator=generator, dtype=box.lower.dtype)
    inner = box.lower + u * (box.upper - box.lower)
    corners = torch.where(u > 0.5, box.upper, box.lower)
    return torch.cat([inner, corners])
