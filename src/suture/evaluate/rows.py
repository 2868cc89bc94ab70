"""One row of an evaluation: a model, an attack, and what was measured, as records."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from suture.attacks import Attack, AttackResult
from suture.evaluate.metrics import per_class
from suture.evaluate.records import Protocol, Record
from suture.rng import Stream, bits, image_keys
from suture.types import Batch, described, is_randomised

CHUNK = 512
"""Images per forward where nothing is attacked."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A classifier under evaluation.

    Attributes:
        name: "undefended" or "defended".
        model: the classifier.
        reference: how to find the model again (a name or path).
        defence: ``repr`` of the repair, or "none".
    """

    name: str
    model: nn.Module
    reference: str
    defence: str = "none"


@dataclass(frozen=True, eq=False)
class Row:
    """What to measure: a subject, an attack (``None``: clean accuracy) and its label."""

    subject: Subject
    label: str
    protocol: Protocol
    attack: Attack | None = None
    repeats: int = 1
    tags: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Measured:
    """A record, the images it was measured on, and which of them were classified right."""

    record: Record
    images: Tensor
    right: Tensor


def relabelled(measured: Measured, row: Row) -> Measured:
    """The same measurement under another row's label."""
    record = replace(measured.record, row=row.label, protocol=row.protocol, tags=dict(row.tags))
    return replace(measured, record=record)


def decisions(model: nn.Module, images: Tensor, stream: Stream) -> Tensor:
    """Predicted classes ``(n,)``, with one fresh draw per image for a randomised model."""
    return fresh_logits(model, images, stream).argmax(1)


def fresh_logits(model: nn.Module, images: Tensor, stream: Stream) -> Tensor:
    """Logits ``(n, classes)``; each image's draw depends on its content and the stream only."""
    parts = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream.key & (2**63 - 1))
        for piece in images.split(CHUNK):
            noise = bits(image_keys(piece, stream), 0)
            parts.append(model(piece, noise=noise) if is_randomised(model) else model(piece))
    return torch.cat(parts)


def share_right(model: nn.Module, images: Tensor, labels: Tensor, draws: int = 50) -> Tensor:
    """Share ``(n,)`` of draws that classify each image right.

    Exact over the K programs of a defended classifier that has them; over fresh draws for other
    randomised models; 0 or 1 for a deterministic one.
    """
    about = described(model)
    if not about.randomised:
        return (decisions(model, images, Stream(0)) == labels).float()
    odds = torch.tensor(about.odds())
    if not len(odds):
        hits = [decisions(model, images, Stream(1).child(d)) == labels for d in range(draws)]
        return torch.stack(hits).float().mean(0)
    with torch.no_grad():
        pieces = zip(images.split(CHUNK), labels.split(CHUNK), strict=True)
        return torch.cat([_share(about.each(i), y, odds) for i, y in pieces])


def _share(logits: Tensor, labels: Tensor, odds: Tensor) -> Tensor:
    right = (logits.argmax(2) == labels).double()
    return (odds.to(right) @ right).float()


def fixed_models(model: nn.Module) -> list[nn.Module]:
    """The deterministic classifiers that a randomised one draws from, best first, if it has any."""
    return [member for _, member in described(model).support()]


def spent(result: AttackResult) -> list[int | None]:
    """Queries at success, ``None`` where the image held."""
    counts = result.queries.tolist()
    return [None if held else q for q, held in zip(counts, result.robust.tolist(), strict=True)]


def _threat(attack: Attack) -> dict[str, Any]:
    """The threat model for JSON, which has no infinity."""
    threat = dict(vars(attack.threat(getattr(attack, "queries", None))))
    return threat | ({"eps": "inf"} if math.isinf(attack.eps) else {})


def record_of(
    row: Row,
    batch: Batch,
    data: str,
    seed: int,
    repeat: int,
    right: Tensor,
    queries: list[int | None],
    seconds: float,
    memory: float,
) -> Record:
    """The record of a row that was measured: who was right, and what it took."""
    attack, subject = row.attack, row.subject
    return Record(
        subject=subject.name,
        row=row.label,
        metric="clean accuracy" if attack is None else "robust accuracy",
        protocol=row.protocol,
        right=int(right.sum()),
        n=len(batch),
        seed=seed,
        repeat=repeat,
        model=subject.reference,
        defence=subject.defence,
        attack="none" if attack is None else repr(attack),
        data=data,
        threat={} if attack is None else _threat(attack),
        per_class=per_class(right.cpu(), batch.labels.cpu()),
        queries=queries,
        tags=dict(row.tags),
        seconds=round(seconds, 3),
        peak_memory_mb=round(memory, 1),
    )
