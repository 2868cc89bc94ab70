"""Large objects that many items use: sent to a worker once, not with every item.

``Handle`` is what items carry. In a worker process on the same machine the arrays behind it lie in
memory that all workers map copy-on-write: shared until one writes, and then its own. That memory
has no name on disk; it goes with the last process that uses it, however that ends.
"""

from __future__ import annotations

import mmap
import os
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from suture.engine.packing import layout, pack_apart, unpack_apart
from suture.errors import EngineError

Shared = TypeVar("Shared")
_HERE: dict[str, Any] = {}
_COMING: dict[str, Callable[[], Any]] = {}


@dataclass(frozen=True)
class Handle(Generic[Shared]):
    """Stands for a shared object; a few bytes, wherever it is sent.

    >>> from suture.engine import Inline
    >>> with Inline().shared([1, 2, 3]) as handle:
    ...     sum(handle.get())
    6
    """

    key: str

    def get(self) -> Shared:
        """The object. Treat it as read-only: other items see it too.

        Raises:
            EngineError: outside the block of ``Engine.shared`` that made the handle.
        """
        if self.key in _COMING:
            _HERE[self.key] = _COMING.pop(self.key)()
        if self.key not in _HERE:
            raise EngineError(
                expected="a shared object that is still shared",
                got=f"the handle {self.key} of one that is not",
                remedy="Use handles inside the block of Engine.shared that made them.",
            )
        return _HERE[self.key]


def new_key() -> str:
    """A name that no other handle has."""
    return secrets.token_hex(8)


def hold(key: str, value: Any) -> None:
    """Make an object available in this process."""
    _HERE[key] = value


def expect(key: str, load: Callable[[], Any]) -> None:
    """Make an object available in this process, loaded when it is first asked for."""
    _COMING[key] = load


def known() -> set[str]:
    """Keys that are available in this process."""
    return _HERE.keys() | _COMING.keys()


def forget(key: str) -> None:
    """Let an object go."""
    _HERE.pop(key, None)
    _COMING.pop(key, None)


@dataclass(frozen=True)
class Segment:
    """A shared object laid out in nameless memory.

    Attributes:
        handle: file descriptor of the memory.
        spans: where the structure and each array lie, ``(start, length)``.
    """

    handle: int
    spans: list[tuple[int, int]]

    @staticmethod
    def of(value: Any) -> Segment:
        """Lay an object out; nothing of it is copied more than once."""
        body, buffers = pack_apart(value)
        spans = layout(body, buffers)
        handle = _nameless()
        try:
            for (start, _), part in zip(spans, (memoryview(body), *buffers), strict=True):
                _write(handle, start, part)
            os.ftruncate(handle, max(1, spans[-1][0] + spans[-1][1]))
        except OSError as error:
            os.close(handle)
            raise EngineError(
                expected="memory for what the workers share",
                got=error.strerror or str(error),
                remedy="Free memory, or use --engine inline.",
            ) from error
        return Segment(handle, spans)

    def close(self) -> None:
        """Give this process' hold on the memory back."""
        os.close(self.handle)


def read(handle: int, spans: list[tuple[int, int]]) -> Any:
    """The object in a segment; arrays are views of the mapped memory."""
    end = spans[-1][0] + spans[-1][1]
    memory = memoryview(mmap.mmap(handle, max(1, end), access=mmap.ACCESS_COPY))
    os.close(handle)
    parts = [memory[start : start + length] for start, length in spans]
    return unpack_apart(bytes(parts[0]), parts[1:])


def _nameless() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("suture")
    handle, path = tempfile.mkstemp(prefix="suture-")
    os.unlink(path)  # noqa: PTH108 - the descriptor keeps it
    return handle


def _write(handle: int, start: int, part: memoryview) -> None:
    flat, done = part.cast("B") if part.nbytes else part, 0
    while done < part.nbytes:
        done += os.pwrite(handle, flat[done : done + (1 << 30)], start + done)
