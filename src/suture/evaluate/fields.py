"""What a record read from a file must look like, field by field: anything else is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MOST = 2**53
"""Counts beyond this are no counts, and no float holds them."""
DEEPEST = 8
PROTOCOLS = ("none", "paper", "adaptive", "sanity")
Check = Callable[[Any], bool]


def text(value: Any) -> bool:
    """Whether this is text."""
    return isinstance(value, str)


def whole(value: Any) -> bool:
    """Whether this is a whole number, and not a truth value."""
    return type(value) is int


def count(value: Any) -> bool:
    """Whether this can be a number of images."""
    return whole(value) and 0 <= value <= MOST


def number(value: Any) -> bool:
    """Whether this is a finite number of usual size."""
    return type(value) in (int, float) and abs(value) <= 1e300


def counts(value: Any) -> bool:
    """Whether this is ``[right, n]`` with 0 <= right <= n."""
    pair = isinstance(value, list) and len(value) == 2 and all(map(count, value))
    return pair and value[0] <= value[1]


def a_list(each: Check) -> Check:
    """Whether this is a list of such values."""
    return lambda value: isinstance(value, list) and all(map(each, value))


def optional(check: Check) -> Check:
    """Whether this is such a value, or ``None``."""
    return lambda value: value is None or check(value)


def one_of(*known: Any) -> Check:
    """Whether this is one of the known words."""
    return lambda value: text(value) and value in known


def mapping(value: Any) -> bool:
    """Whether this is an object that is not nested beyond reason."""
    return isinstance(value, dict) and _shallow(value, DEEPEST)


def flat(value: Any) -> bool:
    """Whether this is an object with nothing below it."""
    return isinstance(value, dict) and not any(isinstance(v, dict | list) for v in value.values())


def threat(value: Any) -> bool:
    """Whether this is a threat model: flat, its radius a number or ``"inf"``."""
    if not flat(value) or not optional(count)(value.get("queries")):
        return False
    eps = value.get("eps", 0.0)
    return text(value.get("norm", "")) and (number(eps) or eps in ("inf", float("inf")))


def attack(value: Any) -> bool:
    """Whether this is an attack's name and parameters, or ``{}`` for none."""
    if not mapping(value) or not value:
        return value == {}
    named = text(value.get("name")) and isinstance(value.get("parameters"), dict)
    return (
        named and value.keys() <= {"name", "parameters", "of"} and a_list(text)(value.get("of", []))
    )


def outcomes(value: Any) -> bool:
    """Whether this is text of "0" and "1" alone."""
    return text(value) and set(value) <= {"0", "1"}


def draws(value: Any) -> bool:
    """Whether this says what a query averages: ``None``, "exact", or how many draws."""
    return value is None or value == "exact" or (count(value) and value >= 1)


def _shallow(value: Any, left: int) -> bool:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left > 0 and all(_shallow(item, left - 1) for item in below)


def checks(roles: tuple[str, ...], kinds: tuple[str, ...]) -> dict[str, Check]:
    """What each field of a record must be."""
    texts = ("metric", "subject", "model", "defence", "data", "through", "position", "tier")
    return {
        "role": one_of(*roles),
        "kind": one_of(*kinds),
        "protocol": one_of(*PROTOCOLS),
        **dict.fromkeys(texts, text),
        **dict.fromkeys(("right", "n", "repeat"), count),
        **dict.fromkeys(("seed", "schema"), whole),
        **dict.fromkeys(("seconds", "peak_memory_mb"), number),
        **dict.fromkeys(("tags", "versions", "hardware"), mapping),
        "attack": attack,
        "threat": threat,
        "draws": draws,
        "program": optional(count),
        "expected": optional(number),
        "per_class": a_list(counts),
        "queries": a_list(optional(count)),
        "each": outcomes,
        "images": text,
        "warnings": a_list(text),
    }
