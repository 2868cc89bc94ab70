"""All rows of an evaluation at once: cut into pieces of images, mapped over an engine.

A piece is what a row's attack would treat together anyway (``batch_size`` images), with the row's
own stream: the records are the same, whatever the engine. Rows and pieces alike are spread, so
that few images keep many workers busy too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from suture.attacks import Attack
from suture.engine import Engine, Handle
from suture.evaluate.rows import CHUNK, Measured, Row, decisions, record_of, share_right, spent
from suture.models import digest, identity
from suture.provenance import peak_memory_mb
from suture.rng import Stream
from suture.types import Batch, OnProgress


@dataclass(frozen=True)
class _Job:
    """A row's repetition: which model, which attack, which images; small enough to be sent."""

    model: int
    source: int | None
    position: str
    attack: Attack | None
    seed: int
    repeat: int
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class _Piece:
    """What came out of a job. ``images`` is ``None`` where nothing was changed."""

    images: Tensor | None
    right: Tensor
    share: Tensor
    queries: list[int | None]
    seconds: float
    memory: float


def measure_all(
    jobs: list[tuple[Row, int]],
    batch: Batch,
    data: str,
    seed: int,
    *,
    engine: Engine,
    batch_size: int = 256,
    on_row: OnProgress | None = None,
) -> list[Measured]:
    """Measure rows, each given with the number of its repetition; results in the same order.

    Args:
        jobs: rows and repetitions.
        batch_size: images attacked at a time.
        on_row: called as ``on_row(label, pieces finished, pieces in all)``.
    """
    used = [m for row, _ in jobs for m in (row.subject.model, row.source) if m is not None]
    models = list({id(model): model for model in used}.values())
    cut = [list(_cut(row, repeat, models, len(batch), seed, batch_size)) for row, repeat in jobs]
    flat = [job for pieces in cut for job in pieces]
    work = " ".join([*(identity(model, batch) for model in models), f"{batch_size}", repr(flat)])
    measured: list[Measured] = []
    tell = _teller(jobs, cut, on_row)
    # Images travel with their job: a worker of a cluster never holds the whole set.
    items = [
        (job, _images(row, batch)[job.start : job.stop])
        for (row, _), pieces in zip(jobs, cut, strict=True)
        for job in pieces
    ]
    with engine.shared(models) as handle:
        fn = partial(_measure, handle, batch_size)
        pieces = engine.keep("rows", fn, items, work=work, pack=vars, unpack=_unpacked)
        for (row, repeat), own in zip(jobs, cut, strict=True):
            parts = [next(_told(pieces, tell)) for _ in own]
            measured.append(_joined(row, repeat, parts, batch, data, seed))
    return measured


def shares(
    model: nn.Module, candidates: list[Tensor], batch: Batch, *, engine: Engine, stage: str
) -> Tensor:
    """Share of draws ``(candidates, n)`` that classify each candidate image right."""
    spans = [slice(start, start + CHUNK) for start in range(0, len(batch), CHUNK)]
    items = [([c[span] for c in candidates], batch.labels[span]) for span in spans]
    seen = [identity(model, batch), *map(digest, candidates)]
    with engine.shared(model) as handle:
        fn = partial(_shares, handle)
        return torch.cat(list(engine.keep(stage, fn, items, work=" ".join(seen))), dim=1)


def _shares(handle: Handle[nn.Module], item: tuple[list[Tensor], Tensor]) -> Tensor:
    candidates, labels = item
    return torch.stack([share_right(handle.get(), images, labels) for images in candidates])


def _images(row: Row, batch: Batch) -> Batch:
    return batch if row.batch is None else row.batch


def _cut(
    row: Row, repeat: int, models: list[nn.Module], n: int, seed: int, batch_size: int
) -> Iterator[_Job]:
    places = {id(model): place for place, model in enumerate(models)}
    which, source = places[id(row.subject.model)], places.get(id(row.source))
    size = CHUNK if row.attack is None else batch_size
    for start in range(0, n, size):
        yield _Job(
            which, source, row.position, row.attack, seed, repeat, start, min(start + size, n)
        )


def _measure(handle: Handle[list[nn.Module]], batch_size: int, item: tuple[_Job, Batch]) -> _Piece:
    """The stream depends on the seed and the repetition only, so that rows meet the same draws."""
    (job, batch), started = item, time.monotonic()
    stream = Stream(job.seed).child("evaluate").child(job.repeat)
    model = handle.get()[job.model]
    images, queries = None, []
    if job.attack is None:
        right = decisions(model, batch.images, stream) == batch.labels
        share = right.float()
    else:
        source = None if job.source is None else handle.get()[job.source]
        result = job.attack(
            model, batch, generator=stream, batch_size=batch_size, transfer_from=source
        )
        images, right, queries = result.images, result.robust, spent(result)
        share = result.share
    return _Piece(images, right, share, queries, time.monotonic() - started, peak_memory_mb())


def _unpacked(value: dict[str, Any]) -> _Piece:
    return _Piece(**value)


def _joined(
    row: Row, repeat: int, parts: list[_Piece], batch: Batch, data: str, seed: int
) -> Measured:
    device = batch.images.device
    batch = _images(row, batch)
    right = torch.cat([part.right for part in parts]).to(device)
    share = torch.cat([part.share for part in parts]).to(device)
    changed = [part.images.to(device) for part in parts if part.images is not None]
    images = torch.cat(changed) if changed else batch.images
    queries = [count for part in parts for count in part.queries]
    seconds = sum(part.seconds for part in parts)
    memory = max(part.memory for part in parts)
    record = record_of(row, batch, data, seed, repeat, right, share, queries, seconds, memory)
    return Measured(record, images, right, share)


def _teller(
    jobs: list[tuple[Row, int]], cut: list[list[_Job]], on_row: OnProgress | None
) -> Iterator[None]:
    """Each step reports one more finished piece, under the label of the row that is next."""
    told = zip(jobs, cut, strict=True)
    labels = [f"{row.subject.name}: {row.label}" for (row, _), own in told for _ in own]
    for done, label in enumerate([*labels, labels[-1]]):
        if on_row is not None:
            on_row(label, done, len(labels))
        yield


def _told(pieces: Iterator[_Piece], tell: Iterator[None]) -> Iterator[_Piece]:
    next(tell)
    yield next(pieces)
