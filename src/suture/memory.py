"""Memory that is used again and again is kept, not returned to the system every time."""

from __future__ import annotations

from functools import cache

import torch

_LARGEST = 32 * 2**20 - 2**16
"""Just below 32 MiB, beyond which glibc always asks the system."""


@cache
def keep() -> None:
    """Let the C library serve large tensors from memory that it has already.

    glibc takes blocks larger than any freed before from the system and gives them back, and every
    page of fresh memory interrupts the program when first written. Freeing one large block, never
    written, makes it serve blocks below 32 MiB from its heaps and give their ends back only beyond
    64 MiB, as it would after any work with a tensor of that size (mallopt(3), M_MMAP_THRESHOLD).
    Other C libraries do not notice, and settings in ``MALLOC_`` variables or ``GLIBC_TUNABLES``
    stay in force.
    """
    torch.empty(_LARGEST, dtype=torch.uint8)
