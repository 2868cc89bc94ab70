"""Measuring one classifier under the paper's protocol, and under an attacker who averages."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from suture.attacks import Attack
from suture.attacks.against.knowing import knowing
from suture.evaluate import decisions
from suture.evaluate.rows import fixed_models, share_right
from suture.rng import Stream
from suture.types import Batch, is_randomised


@dataclass(frozen=True)
class Protocol:
    """What is measured of a model.

    Attributes:
        repeats: of the paper's protocol on a randomised model, each with its own draws.
        eot: draws that the adaptive attackers average, one attack each.
        deep: also the best program alone, and images made on the undefended model.
    """

    repeats: int = 1
    eot: tuple[int, ...] = (10,)
    deep: bool = False


def measured(
    model: nn.Module,
    batch: Batch,
    attack: Attack,
    protocol: Protocol,
    stream: Stream,
    undefended: nn.Module,
) -> dict[str, Any]:
    """Counts of images that are right, out of ``n``.

    ``clean``; ``paper``: one count a repetition; ``eot``: draws to count; ``strong``: per image the
    attacker keeps the candidate that fools the largest share of the programs, then a fresh draw
    decides; ``every``: right under every program on every candidate. ``deep`` adds
    ``alone`` (the best program, fixed) and ``transferred``. A deterministic model has no draws to
    average: its ``eot`` is empty, and what its attack leaves is ``strong`` and ``every``.
    """
    clean = int((decisions(model, batch.images, stream) == batch.labels).sum())
    found: dict[str, Any] = {"n": len(batch), "clean": clean}
    if not is_randomised(model):
        held = int(attack(model, batch, generator=stream).robust.sum())
        return found | {"paper": [held], "eot": {}, "strong": held, "every": held}
    results = [
        attack(model, batch, generator=stream.child(i) if i else stream)
        for i in range(protocol.repeats)
    ]
    found["paper"] = [int(result.robust.sum()) for result in results]
    candidates, found["eot"] = [batch.images, results[0].images], {}
    for draws in protocol.eot:
        result = knowing(attack, draws)(model, batch, generator=stream)
        found["eot"][str(draws)] = int(result.robust.sum())
        candidates.append(result.images)
    if protocol.deep:
        images = attack(undefended, batch, generator=stream).images
        right = decisions(model, images, stream.child("transfer")) == batch.labels
        found["transferred"] = int(right.sum())
        candidates.append(images)
        alone = fixed_models(model)
        if alone:
            found["alone"] = int(attack(alone[0], batch, generator=stream).robust.sum())
    return found | _strongest(model, batch, candidates, stream)


def _strongest(
    model: nn.Module, batch: Batch, candidates: list[Tensor], stream: Stream
) -> dict[str, int]:
    shares = torch.stack([share_right(model, images, batch.labels) for images in candidates])
    share, chosen = shares.min(0)
    images = torch.stack(candidates)[chosen, torch.arange(len(batch))]
    right = decisions(model, images, stream.child("strongest")) == batch.labels
    return {"strong": int(right.sum()), "every": int((share == 1.0).sum())}


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
