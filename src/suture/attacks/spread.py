"""An attack on many images, cut into pieces that an engine maps, keeps and resumes."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from suture.attacks.base import Attack, AttackResult
from suture.engine import Engine, Handle
from suture.models import identity
from suture.rng import Stream, as_stream
from suture.types import Batch, LabelledImages, OnDone


def spread(
    attack: Attack,
    model: nn.Module,
    batch: LabelledImages,
    *,
    engine: Engine,
    generator: torch.Generator | Stream | int | None = None,
    batch_size: int = 256,
    stage: str = "attack",
    on_progress: OnDone | None = None,
) -> AttackResult:
    """``attack(model, batch)``, a piece of ``batch_size`` images being an item of the engine.

    The result is that of the plain call, to the bit at equal compute threads: pieces are what the
    plain call would attack together, and an image's random stream depends on its content.

    Args:
        stage: the name under which a run keeps the pieces.
    """
    stream = as_stream(generator)
    pieces = list(batch.split(batch_size))
    work = f"{attack!r} {stream.key} {batch_size} {identity(model, batch)}"
    parts: list[AttackResult] = []
    with engine.shared(model) as handle:
        fn = partial(_piece, attack, handle, stream, batch_size)
        kept = engine.keep(stage, fn, pieces, work=work, pack=to_plain, unpack=from_plain)
        for part in kept:
            parts.append(part)
            if on_progress is not None:
                on_progress(min(len(parts) * batch_size, len(batch)), len(batch))
    return AttackResult.concat(parts)


def _piece(
    attack: Attack, handle: Handle[nn.Module], stream: Stream, batch_size: int, batch: Batch
) -> AttackResult:
    return attack(handle.get(), batch, generator=stream, batch_size=batch_size)


def to_plain(result: AttackResult) -> dict[str, Any]:
    """An attack's result as plain data."""
    return vars(result) | {"notes": list(result.notes)}


def from_plain(value: dict[str, Any]) -> AttackResult:
    """The inverse of ``to_plain``."""
    return AttackResult(**(value | {"notes": tuple(value["notes"])}))
