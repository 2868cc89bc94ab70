"""The strongest attacker that the measured rows add up to, and images made on another model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from suture.engine import Engine
from suture.evaluate.metrics import per_class
from suture.evaluate.pieces import shares
from suture.evaluate.rows import Measured, Subject, decisions
from suture.rng import Stream
from suture.types import Batch, is_randomised

WORST = "strongest attack per image"
EVERY = "right under every program (worst of K)"
TRANSFERRED = "images made on the undefended model"


def strongest(
    subject: Subject,
    measured: list[Measured],
    batch: Batch,
    repeats: int,
    seed: int,
    engine: Engine,
) -> Iterator[Measured]:
    """Per image, the candidate that the largest share of draws gets wrong; then a fresh decision.

    The attacker knows the defence, so he can compute those shares himself. Candidates are the
    images of every row that attacked this subject at the full radius, and the transferred ones.
    For a deterministic model this is the worst case over attacks, image by image.
    """
    started = time.monotonic()
    rows = [m for m in measured if _is_candidate(m, subject)]
    stage, candidates = f"shares {subject.name}", [m.images for m in rows]
    share, chosen = shares(subject.model, candidates, batch, engine=engine, stage=stage).min(0)
    images = torch.stack([m.images for m in rows])[chosen, torch.arange(len(batch))]
    randomised = is_randomised(subject.model)
    for repeat in range(repeats if randomised else 1):
        stream = Stream(seed).child("strongest").child(repeat)
        right = decisions(subject.model, images, stream) == batch.labels
        tags: dict[str, object] = {
            "strongest": len(rows),
            "mean_share_right": round(float(share.mean()), 6),
        }
        yield _row(rows, subject, WORST, images, right, batch, repeat, tags, started)
    if randomised:
        right = share == 1.0
        yield _row(rows, subject, EVERY, images, right, batch, 0, {"worst_of_k": True}, started)


def transferred(subject: Subject, source: Measured, batch: Batch, seed: int) -> Measured:
    """The subject on images that were made against another model: the weakest of attackers."""
    started = time.monotonic()
    right = decisions(subject.model, source.images, Stream(seed).child("transfer")) == batch.labels
    row = _row(
        [source], subject, TRANSFERRED, source.images, right, batch, 0, {"transfer": True}, started
    )
    return replace(row, record=replace(row.record, protocol="sanity"))


def _is_candidate(measured: Measured, subject: Subject) -> bool:
    record = measured.record
    side_row = record.tags.keys() & {"curve", "program"}
    aimed = "transfer" in record.tags or record.tags.get("sanity") == "fewer steps"
    attacked = record.protocol in ("paper", "adaptive") or aimed
    return record.subject == subject.name and attacked and not side_row


def _row(
    sources: list[Measured],
    subject: Subject,
    label: str,
    images: Tensor,
    right: Tensor,
    batch: Batch,
    repeat: int,
    tags: dict[str, object],
    started: float,
) -> Measured:
    first = sources[0].record
    record = replace(
        first,
        subject=subject.name,
        model=subject.reference,
        defence=subject.defence,
        row=label,
        metric="robust accuracy",
        protocol="adaptive",
        right=int(right.sum()),
        repeat=repeat,
        attack="; ".join(dict.fromkeys(m.record.attack for m in sources)),
        per_class=per_class(right.cpu(), batch.labels.cpu()),
        queries=[],
        tags=tags,
        seconds=round(time.monotonic() - started, 3),
    )
    return Measured(record, images, right)
