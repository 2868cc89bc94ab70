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
from suture.evaluate.records import Kind
from suture.evaluate.rows import Measured, Subject, decisions
from suture.rng import Stream
from suture.types import Batch, is_randomised

CANDIDATES = (Kind.ATTACK, Kind.TRANSFER, Kind.FEWER)


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
    stage = " ".join(("shares", *dict.fromkeys(subject.whose)))
    candidates = [m.images for m in rows]
    share, chosen = shares(subject.model, candidates, batch, engine=engine, stage=stage).min(0)
    images = torch.stack([m.images for m in rows])[chosen, torch.arange(len(batch))]
    randomised = is_randomised(subject.model)
    for repeat in range(repeats if randomised else 1):
        stream = Stream(seed).child("strongest").child(repeat)
        right = decisions(subject.model, images, stream) == batch.labels
        tags = {"candidates": len(rows), "mean_share_right": round(float(share.mean()), 6)}
        row = _row(rows, subject, Kind.STRONGEST, images, right, batch, started)
        yield replace(row, record=replace(row.record, repeat=repeat, tags=tags))
    if randomised:
        yield _row(rows, subject, Kind.EVERY, images, share == 1.0, batch, started)


def transferred(subject: Subject, source: Measured, batch: Batch, seed: int) -> Measured:
    """The subject on images that were made against another model: the weakest of attackers."""
    started = time.monotonic()
    right = decisions(subject.model, source.images, Stream(seed).child("transfer")) == batch.labels
    row = _row([source], subject, Kind.TRANSFER, source.images, right, batch, started)
    told = replace(
        row.record, protocol="sanity", attack=source.record.attack, through=source.record.subject
    )
    return replace(row, record=told)


def _is_candidate(measured: Measured, subject: Subject) -> bool:
    return measured.record.whose == subject.whose and measured.record.kind in CANDIDATES


def _row(
    sources: list[Measured],
    subject: Subject,
    kind: Kind,
    images: Tensor,
    right: Tensor,
    batch: Batch,
    started: float,
) -> Measured:
    names = list(dict.fromkeys(m.record.attack["name"] for m in sources))
    record = replace(
        sources[0].record,
        **subject.facts,
        kind=kind,
        metric="robust accuracy",
        protocol="adaptive",
        right=int(right.sum()),
        repeat=0,
        attack={"name": "strongest", "parameters": {}, "of": names},
        draws=None,
        through="",
        per_class=per_class(right.cpu(), batch.labels.cpu()),
        queries=[],
        seconds=round(time.monotonic() - started, 3),
    )
    return Measured(record, images, right)
