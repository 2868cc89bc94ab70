"""Images in an order of the caller's, decoded ahead by processes of their own where that pays."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from suture import forking
from suture.data.stores import Images
from suture.engine.threads import available_cores
from suture.errors import SutureError

_MOST_WORKERS, _AHEAD = 16, 2
WORKERS = "SUTURE_LOADER_WORKERS"
"""Environment variable: processes that decode; half of the cores where it is not set."""


def fed(store: Images, pieces: Sequence[Tensor]) -> Iterator[Tensor]:
    """What ``store.take`` gives for each piece of rows, in that order.

    Worker processes decode what comes next, two pieces each at most: memory does not grow with
    the number of pieces. What they decode is what this process would: the bits are the same, with
    any number of them. No random number is drawn.

    Args:
        store: where the images lie.
        pieces: rows, int64 ``(k,)`` each.
    """
    workers = _workers(store, len(pieces))
    if not workers:
        for rows in pieces:
            yield store.take(rows)
        return
    loader: DataLoader[Any] = DataLoader(
        _PieceReader(store),  # type: ignore[arg-type]
        batch_sampler=_PieceOrder(pieces),  # type: ignore[arg-type]
        num_workers=workers,
        prefetch_factor=_AHEAD,
        multiprocessing_context=_context(store),
        collate_fn=_as_it_is,
        worker_init_fn=forking.end_with_session,
        generator=torch.Generator(),  # else it draws a seed from everybody's
    )
    for stored in loader:
        if isinstance(stored, SutureError):
            raise stored
        yield torch.from_numpy(stored)


def _workers(store: Images, pieces: int) -> int:
    """None for images that are at hand, for a single piece, and where no process may be started."""
    if not store.slow or pieces < 2 or multiprocessing.current_process().daemon:
        return 0
    told = os.environ.get(WORKERS, "")
    wanted = int(told) if told.isdecimal() else max(1, available_cores() // 2)
    return min(wanted, pieces, _MOST_WORKERS)


def _context(store: Images) -> BaseContext | None:
    """What starts the processes; ``None`` for forks of this one, as data of others may need.

    A fork holds all memory that this process had: where pages change later, the old ones stay with
    the fork. A model's activations change all the time, so that would count them twice.
    """
    return forking.bare_context() if getattr(store, "portable", False) else None


class _PieceOrder:
    """The loader's own order, as arrays: tensors would travel by shared files."""

    def __init__(self, pieces: Sequence[Tensor]) -> None:
        self._pieces = pieces

    def __len__(self) -> int:
        return len(self._pieces)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (rows.numpy() for rows in self._pieces)


class _PieceReader:
    """A store as the loader asks it: for whole pieces."""

    def __init__(self, store: Images) -> None:
        self._store = store

    def __len__(self) -> int:
        return self._store.shape[0]

    def __getitems__(self, rows: np.ndarray) -> np.ndarray | SutureError:
        # An array goes through a pipe: containers often have little memory for shared files.
        try:
            return self._store.take(torch.from_numpy(rows)).numpy()
        except SutureError as error:  # the loader would make another error of it
            return error


def _as_it_is(piece: Any) -> Any:
    return piece
