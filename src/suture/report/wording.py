"""Numbers and threats as a reader meets them in tables, sentences and captions."""

from __future__ import annotations

import math
from typing import Any

from suture.evaluate.records import Record

NARROW = "\u202f"  # keeps a number and its unit on one line
MISSING = "—"
_NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}


def percent(value: float, digits: int | None = None) -> str:
    """A share in percent; without ``digits`` a trailing ``.0`` is left out.

    >>> percent(77.0).replace(NARROW, " "), percent(2.5, 2).replace(NARROW, " ")
    ('77 %', '2.50 %')
    """
    text = f"{value:.1f}".removesuffix(".0") if digits is None else f"{value:.{digits}f}"
    return f"{text}{NARROW}%"


def points(value: float) -> str:
    """A change in percentage points with its sign; a true minus sign, so that columns align."""
    rounded = round(value, 1) + 0.0
    sign = "−" if rounded < 0 else "+" if rounded > 0 else "±"
    return f"{sign}{abs(rounded):.1f}"


def radius(eps: float) -> str:
    """A radius as its users write it: grey levels as ``8/255``, round decimals as they are.

    >>> radius(8 / 255), radius(0.15), radius(float("inf"))
    ('8/255', '0.15', 'unbounded')
    """
    if math.isinf(eps):
        return "unbounded"
    levels = eps * 255
    is_round = math.isclose(eps * 1000, round(eps * 1000), abs_tol=1e-9)
    if not is_round and 0 < levels < 255 and math.isclose(levels, round(levels), abs_tol=1e-6):
        return f"{round(levels)}/255"
    return f"{eps:g}"


def norm(name: object) -> str:
    """``linf`` as L∞; anything unknown as it came."""
    return _NORMS.get(str(name), str(name))


def threat(model: dict[str, Any]) -> str:
    """Norm and radius in words: ``L∞, ε = 0.15``; empty when nothing is known."""
    parts = [norm(model["norm"])] if model.get("norm") is not None else []
    eps = model.get("eps")
    eps = math.inf if eps == "inf" else eps
    if isinstance(eps, int | float):
        parts.append("unbounded" if math.isinf(eps) else f"ε = {radius(eps)}")
    return ", ".join(parts)


def attack_name(record: Record) -> str:
    """The name of the attack; the row's words for none, or for the strongest of several."""
    several = "of" in record.attack or not record.attack
    return f"“{record.row}”" if several else str(record.attack["name"])


def duration(seconds: object) -> str:
    """Seconds as ``41 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds < 0:
        return MISSING
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def plural(count: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
