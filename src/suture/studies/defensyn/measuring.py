"""Measuring one classifier under the paper's protocol, and what is left before one who knows it."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from suture.attacks import Attack
from suture.evaluate import decisions
from suture.evaluate.left import Left, what_is_left
from suture.rng import Stream
from suture.types import Batch, is_randomised


@dataclass(frozen=True)
class Protocol:
    """What is measured of a model.

    Attributes:
        repeats: of the paper's protocol on a randomised model, each with its own draws.
        attacked: first images, which the attacker who knows the model gets.
        tier: how much he tries.
    """

    repeats: int = 1
    attacked: int = 250
    tier: str = "standard"


def measured(
    model: nn.Module,
    batch: Batch,
    attack: Attack,
    protocol: Protocol,
    stream: Stream,
    undefended: tuple[nn.Module, Left] | None = None,
) -> tuple[dict[str, Any], Left]:
    """Counts of images that are right, out of ``n``, and what an attacker who knows all leaves.

    ``clean``; ``paper``: one count a repetition; ``left``: ``Left.row()``, on the first images.

    Args:
        undefended: what the model was made from, and what is left of it.
    """
    clean = int((decisions(model, batch.images, stream) == batch.labels).sum())
    repeats = protocol.repeats if is_randomised(model) else 1
    results = [
        attack(model, batch, generator=stream.child(i) if i else stream) for i in range(repeats)
    ]
    paper = [int(result.robust.sum()) for result in results]
    before, bare = undefended or (None, None)
    left = what_is_left(
        model,
        batch[: protocol.attacked],
        attack,
        undefended=before,
        before=bare,
        tier=protocol.tier,
        seed=stream.key % 2**31,
    )
    row = {"n": len(batch), "clean": clean, "paper": paper, "tier": protocol.tier}
    return row | {"left": left.row()}, left


def seconds_an_image(model: nn.Module, images: Tensor, repeats: int = 5) -> float:
    """Median wall-clock of a forward, an image."""
    times = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model(images)
        for _ in range(repeats):
            started = time.perf_counter()
            model(images)
            times.append(time.perf_counter() - started)
    return statistics.median(times) / len(images)
