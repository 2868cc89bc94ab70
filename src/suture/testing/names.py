"""What the ``repr`` of a method mentions."""

from __future__ import annotations

import dataclasses
import math
from typing import Any


def names_of(value: Any) -> dict[str, Any]:
    """The dataclasses in a value by name, and ``inf``: enough to evaluate its ``repr``."""
    names: dict[str, Any] = {"inf": math.inf}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names[type(value).__name__] = type(value)
        for field in dataclasses.fields(value):
            names |= names_of(getattr(value, field.name))
    elif isinstance(value, tuple):
        for part in value:
            names |= names_of(part)
    return names
