"""Past one machine, and past its memory: cases of ``benchmarks/scaling``, a module a family.

``train-2``, ``ray-train-2``, ``certify-2``: two processes over one.
"""

from __future__ import annotations

import harness
from scaling import together

FAMILIES = (together,)
"""Each has ``rows() -> list[harness.Row]``."""


def rows() -> list[harness.Row]:
    """All cases of all families."""
    return [row for family in FAMILIES for row in family.rows()]
