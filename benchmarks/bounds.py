"""Bounds of two small networks, batch 64, radius 0.1, margins of ten classes.

``fc`` is 784-200-32-10; ``cnn`` is conv 16 and 32 (4×4, stride 2), FC 100, FC 10. The floor is one
natural forward, or one natural training step (forward, cross entropy, backward).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import harness
from suture import bounds, models
from suture.types import Box

SHAPE, BATCH, EPS, NETWORKS = (1, 28, 28), 64, 0.1, 100


def rows() -> list[harness.Row]:
    """Three cases a network, and many small networks at once."""
    found = []
    for name, kind in (("fc", "fnn_big"), ("cnn", "a5_small")):
        model = models.build(kind, in_shape=SHAPE, classes=10).eval()
        found += _network(name, model)
    return [*found, _per_example()]


def _network(name: str, model: nn.Module) -> list[harness.Row]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCH, *SHAPE, generator=generator)
    labels = torch.randint(10, (BATCH,), generator=generator)
    box, network = Box.around(images, EPS), bounds.read(model, SHAPE)

    def bound(method: bounds.Method) -> None:
        with torch.no_grad():
            bounds.margins(network, box, labels, method)

    def forward() -> None:
        with torch.no_grad():
            model(images)

    def step() -> None:
        found = bounds.margins(network, box, labels, "crown-ibp")
        model.zero_grad()
        bounds.worst_case_cross_entropy(found, labels).backward()

    def natural() -> None:
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()

    cases = {
        "ibp": (lambda: bound("ibp"), forward, "one natural forward"),
        "crown": (lambda: bound("crown"), forward, "one natural forward"),
        "crown-ibp-step": (step, natural, "one natural training step"),
    }
    return [
        harness.overhead(f"{name}-{case}", ours, floor, named=named, repeats=11)
        for case, (ours, floor, named) in cases.items()
    ]


def _per_example() -> harness.Row:
    """CROWN of 100 networks 784-64-16-10, each with weights and a box of its own."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(64, 784), (16, 64), (10, 16)]
    weights = [torch.randn(NETWORKS, *s, generator=generator) / s[1] ** 0.5 for s in sizes]
    biases = [torch.randn(NETWORKS, s[0], generator=generator) / 10 for s in sizes]
    images = torch.rand(NETWORKS, 784, generator=generator)
    box, labels = Box.around(images, 0.05), torch.zeros(NETWORKS, dtype=torch.long)

    def network(chosen: slice | int) -> bounds.Network:
        ops: list[bounds.Linear | bounds.Relu] = []
        for weight, bias in zip(weights, biases, strict=True):
            ops += [bounds.Linear(weight[chosen], bias[chosen]), bounds.Relu()]
        return bounds.chain(ops[:-1], (784,))

    together, alone = network(slice(None)), [network(i) for i in range(NETWORKS)]

    def batched() -> None:
        with torch.no_grad():
            bounds.margins(together, box, labels)

    def loop() -> None:
        with torch.no_grad():
            for i, own in enumerate(alone):
                part = Box(box.lower[i : i + 1], box.upper[i : i + 1])
                bounds.margins(own, part, labels[i : i + 1])

    return harness.speedup(
        "per-example", batched, loop, named="the same bounds, one network at a time"
    )
