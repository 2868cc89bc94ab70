"""All rows of an evaluation at once: cut into pieces of images, mapped over an engine.

A piece is what a row's attack would treat together anyway (``batch_size`` images), with the row's
own stream: the records are the same, whatever the engine. Rows and pieces alike are spread, so
that few images keep many workers busy too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from suture.attacks import Attack
from suture.engine import Engine, Handle
from suture.evaluate.pictures import (
    Album,
    CleanPictures,
    Pictures,
    Store,
    chunk_of,
)
from suture.evaluate.rows import Measured, Row, decisions, record_of, share_right, spent
from suture.models import identity
from suture.provenance import peak_memory_mb
from suture.rng import Stream
from suture.types import Batch, LabelledImages, OnProgress


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
    kept: bool


class _Portion:
    """Some of the images, decoded where they are attacked; to another process they go decoded."""

    def __init__(self, data: LabelledImages, start: int, stop: int) -> None:
        self._data, self._span = data, slice(start, stop)

    def get(self) -> Batch:
        """The images with their labels."""
        return self._data[self._span]

    def __reduce__(self) -> tuple[Any, ...]:
        batch = self.get()
        return _Portion, (batch, 0, len(batch))


class _Candidates:
    """Several attackers' images of one span, read where they are compared; they travel as such."""

    def __init__(self, pictures: list[Any], labels: Tensor, span: slice) -> None:
        self._pictures, self.labels, self._span = pictures, labels, span

    def each(self) -> Iterator[Tensor]:
        """One attacker's images after the other's."""
        return (pictures[self._span] for pictures in self._pictures)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Candidates, (list(self.each()), self.labels, slice(None))


@dataclass(frozen=True, eq=False)
class _Piece:
    """What came out of a job. ``images`` is ``None`` where nothing was changed, or is kept."""

    images: Tensor | None
    right: Tensor
    share: Tensor
    queries: list[int | None]
    seconds: float
    memory: float


def measure_all(
    jobs: list[tuple[Row, int]],
    batch: LabelledImages,
    data: str,
    seed: int,
    *,
    engine: Engine,
    batch_size: int = 256,
    on_row: OnProgress | None = None,
    kept: Sequence[bool] | None = None,
    store: Store | None = None,
) -> list[Measured]:
    """Measure rows, each given with the number of its repetition; results in the same order.

    Args:
        jobs: rows and repetitions.
        batch_size: images attacked at a time.
        on_row: called as ``on_row(label, pieces finished, pieces in all)``.
        kept: for each row whether somebody looks at its attacked images again; ``None`` for all.
        store: keeps those that do not fit into memory.
    """
    kept, store = kept or [True] * len(jobs), store or Store()
    used = [m for row, _ in jobs for m in (row.subject.model, row.source) if m is not None]
    models = list({id(model): model for model in used}.values())
    cut = [
        list(_cut(row, repeat, models, batch, seed, batch_size, keep))
        for (row, repeat), keep in zip(jobs, kept, strict=True)
    ]
    flat = [job for pieces in cut for job in pieces]
    work = " ".join([*(identity(model, batch) for model in models), f"{batch_size}", repr(flat)])
    measured: list[Measured] = []
    tell = _teller(jobs, cut, on_row)
    # Images travel with their job: a worker of a cluster never holds the whole set.
    items = [
        (job, _Portion(_images(row, batch), job.start, job.stop))
        for (row, _), pieces in zip(jobs, cut, strict=True)
        for job in pieces
    ]
    with engine.shared(models) as handle:
        fn = partial(_measure, handle, batch_size)
        pieces = engine.keep("rows", fn, items, work=work, pack=vars, unpack=_unpacked)
        shelf = _Shelf(pieces, tell, engine, work, store)
        for (row, repeat), own in zip(jobs, cut, strict=True):
            measured.append(_joined(row, repeat, len(own), shelf, batch, data, seed))
    return measured


class _Shelf:
    """Takes pieces as they come, and puts their images away."""

    def __init__(
        self,
        pieces: Iterator[_Piece],
        tell: Iterator[None],
        engine: Engine,
        work: str,
        store: Store,
    ) -> None:
        self._pieces, self._tell, self._engine = pieces, tell, engine
        self._work, self.store, self._index = work, store, 0

    def next(self, album: Album) -> _Piece:
        """The next piece without its images, which are in the album then."""
        next(self._tell)
        piece, index = next(self._pieces), self._index
        self._index += 1
        if piece.images is None:
            return piece
        again = partial(_again, self._engine, self._work, index) if self._engine.keeps else None
        album.add(piece.images, again)
        return replace(piece, images=None)


def _again(engine: Engine, work: str, index: int) -> Tensor:
    """A piece's images as the run has kept them."""
    found: Tensor = engine.recall("rows", work, index)["images"]
    return found


def shares(
    model: nn.Module,
    candidates: list[Album],
    batch: LabelledImages,
    *,
    engine: Engine,
    stage: str,
) -> Tensor:
    """Share of draws ``(candidates, n)`` that classify each candidate image right."""
    size, labels = chunk_of(batch.shape), batch.labels.to(batch.device)
    spans = [slice(start, start + size) for start in range(0, len(batch), size)]
    items = [_Candidates(candidates, labels[span], span) for span in spans]
    seen = [identity(model, batch), *(candidate.digest for candidate in candidates)]
    with engine.shared(model) as handle:
        fn = partial(_shares, handle)
        return torch.cat(list(engine.keep(stage, fn, items, work=" ".join(seen))), dim=1)


def _shares(handle: Handle[nn.Module], item: _Candidates) -> Tensor:
    model = handle.get()
    return torch.stack([share_right(model, images, item.labels) for images in item.each()])


def _images(row: Row, batch: LabelledImages) -> LabelledImages:
    return batch if row.batch is None else row.batch


def _cut(
    row: Row,
    repeat: int,
    models: list[nn.Module],
    batch: LabelledImages,
    seed: int,
    batch_size: int,
    kept: bool,
) -> Iterator[_Job]:
    places = {id(model): place for place, model in enumerate(models)}
    which, source = places[id(row.subject.model)], places.get(id(row.source))
    size, n = chunk_of(batch.shape) if row.attack is None else batch_size, len(batch)
    about = which, source, row.position, row.attack, seed, repeat
    for start in range(0, n, size):
        yield _Job(*about, start, min(start + size, n), kept)


def _measure(
    handle: Handle[list[nn.Module]], batch_size: int, item: tuple[_Job, _Portion]
) -> _Piece:
    """The stream depends on the seed and the repetition only, so that rows meet the same draws."""
    job, started = item[0], time.monotonic()
    batch, stream = item[1].get(), Stream(job.seed).child("evaluate").child(job.repeat)
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
    images = images if job.kept else None
    return _Piece(images, right, share, queries, time.monotonic() - started, peak_memory_mb())


def _unpacked(value: dict[str, Any]) -> _Piece:
    return _Piece(**value)


def _joined(
    row: Row, repeat: int, count: int, shelf: _Shelf, batch: LabelledImages, data: str, seed: int
) -> Measured:
    """The row's record, from its next ``count`` pieces."""
    device, batch = batch.device, _images(row, batch)
    album = shelf.store.album((len(batch), *batch.shape), device)
    parts = [shelf.next(album) for _ in range(count)]
    right = torch.cat([part.right for part in parts]).to(device)
    share = torch.cat([part.share for part in parts]).to(device)
    images: Pictures | None = album if album.full else None
    images = CleanPictures(batch) if row.attack is None else images
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
