"""Reading files that anybody may have written: every failure becomes one sentence with a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from suture.errors import DataError, SutureError

MAX_BYTES = 8 * 2**30
"""The largest array a file may announce; a header is checked against it before any allocation."""


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a decoder raises for a damaged file into a ``DataError`` that names the file.

    Args:
        path: the file being read, for the message.
        what: what it should be ("an .npz archive").
    """
    try:
        yield
    except (SutureError, MemoryError):
        raise
    # NumPy alone raises tokenizer errors for a damaged header: no list of types is complete.
    except Exception as error:
        raise DataError(
            expected=f"{what} at {path}",
            got=f"{type(error).__name__}: {error}",
            remedy="It is damaged, truncated or unreadable: fetch or write it again.",
        ) from error


def check_size(count: int, path: Path, what: str) -> None:
    """Refuse a header that announces more than ``MAX_BYTES`` bytes.

    Raises:
        DataError: naming the file and the announced size.
    """
    if not 0 <= count <= MAX_BYTES:
        raise DataError(
            expected=f"{what} of at most {MAX_BYTES >> 30} GiB in {path}",
            got=f"a header that announces {count:,} bytes",
            remedy="Store the images as uint8, or split the set; or the file is damaged.",
        )
