"""Counting votes of noisy copies, beside bare forwards of as many images.

One image of MNIST's size, 20 000 copies, one thread: noise, forwards, classes, counts, and the
bound. The network is 784-256-256-10 with random weights (its twin for ablation has a first layer
with doubled channels); the floor is its forward on as many random images, in the same blocks.
Hardly a network in use is faster, so hardly one has a larger share of noise in its time.
"""

from __future__ import annotations

import torch
from torch import nn

import harness
from suture.certify.smoothing import Ablation, Gaussian, RandomCopies, certify_votes
from suture.certify.smoothing.votes import BLOCK
from suture.engine.threads import torch_threads
from suture.repairs.smoothing import SmoothedClassifier
from suture.repairs.smoothing.paired import paired
from suture.types import Batch

COPIES = 20_000


def rows() -> list[harness.Row]:
    """Both kinds of noise."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Linear(256, 10),
    )
    with torch_threads(1):
        return [
            _row("smoothing", network, Gaussian(0.25)),
            _row("ablation", paired(network, (1, 28, 28)), Ablation(45)),
        ]


def _row(case: str, base: nn.Module, noise: RandomCopies) -> harness.Row:
    model = SmoothedClassifier(base.eval(), noise, votes=1, n0=1, n=COPIES, alpha=0.001).eval()
    image = Batch(torch.rand(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64))
    block = noise.whole(torch.rand(BLOCK, 1, 28, 28))

    def ours() -> None:
        certify_votes(model, image)

    @torch.no_grad()
    def bare() -> None:
        for _ in range(-(-COPIES // BLOCK)):
            base(block)

    named = f"{COPIES} bare forwards"
    row = harness.overhead(case, ours, bare, named=named, copies=COPIES)
    return row | {"images_per_second": round(COPIES / row["seconds"])}
