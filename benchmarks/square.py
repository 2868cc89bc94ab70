"""The Square attack against the bare forwards that it needs: batch 256, 1 000 queries, 3×32×32.

The radius is so small that nothing succeeds: every image stays to the end.
"""

from __future__ import annotations

import torch
from torch import nn

import harness
from suture.attacks import Square
from suture.types import Batch

BATCH, QUERIES = 256, 1_000


def rows() -> list[harness.Row]:
    """L∞ and L2."""
    model, batch = _case()
    return [_row(model, batch, norm) for norm in ("linf", "l2")]


def _case() -> tuple[nn.Module, Batch]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 8 * 8, 10),
        ).eval()
        images = torch.rand(BATCH, 3, 32, 32)
    with torch.no_grad():
        logits = model(images)
    return model, Batch(images, logits.argmax(1))


def _row(model: nn.Module, batch: Batch, norm: str) -> harness.Row:
    attack = Square(norm=norm, eps=1e-6, queries=QUERIES)
    result = attack(model, batch)
    assert int(result.queries.sum()) == BATCH * QUERIES, "an image left early"
    forwards = QUERIES + result.checks

    def bare() -> None:
        with torch.no_grad():
            for _ in range(forwards):
                model(batch.images)

    return harness.overhead(
        norm, lambda: attack(model, batch), bare, named=f"{forwards} bare forwards of the batch"
    )
