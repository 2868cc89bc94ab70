"""Past one machine, and past its memory: cases of ``benchmarks/scaling``, a module a family.

``loader``: an epoch fed by the data loader over the bare loop on tensors in memory.
``evaluate-memory``: peak resident memory of an evaluation at two numbers of images.
``train-2``, ``ray-train-2``, ``certify-2``: two processes over one.
"""

from __future__ import annotations

import harness
from scaling import loading, memory, together

FAMILIES = (loading, memory, together)
"""Each has ``rows() -> list[harness.Row]``."""


def rows() -> list[harness.Row]:
    """All cases of all families."""
    return [row for family in FAMILIES for row in family.rows()]
