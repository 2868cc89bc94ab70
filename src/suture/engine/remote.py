"""What runs inside a Ray task: one item, with shared objects taken from the object store once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from suture.engine import sharing, worker
from suture.engine.packing import pack_apart, unpack_apart
from suture.engine.threads import set_threads

Parts = tuple[bytes, list[np.ndarray]]


def parts_of(value: Any) -> Parts:
    """A shared object for the object store: structure, and arrays that are read in place there."""
    body, buffers = pack_apart(value)
    return body, [np.frombuffer(buffer, np.uint8) for buffer in buffers]


def answer(
    work: bytes,
    index: int,
    attempt: int,
    threads: int,
    seconds: float | None,
    shared: Mapping[str, Any],
) -> bytes:
    """An item's packed outcome; ``shared`` are references to what its handles stand for."""
    set_threads(threads)
    for key in sharing.known() - shared.keys():
        sharing.forget(key)
    for key in shared.keys() - sharing.known():
        sharing.expect(key, partial(_fetch, shared[key]))
    return worker.answer(work, index, attempt, seconds)


def _fetch(reference: Any) -> Any:
    import ray

    body, buffers = ray.get(reference)
    return unpack_apart(body, buffers)
