"""What a visitor asks to see: a form's fields → a checked request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from suture.attacks import ATTACKS, Attack, knowing
from suture.errors import ArgumentError
from suture.settings import has, made, number

MOST_IMAGES = 12
MOST_SECONDS = 120.0
DRAWS = 50


@dataclass(frozen=True)
class LookRequest:
    """Which images, of which model, under which attack.

    Attributes:
        model, data: references.
        images: positions among the test images.
        attack: name, "none" for none.
        norm, eps: of the attack; empty for its own default norm.
        side: the model that is attacked, "before" or "after" the repair.
        knows: whether the attacker knows the defence, and averages over its draws.
        seconds: that the attack may take in all.
        draw: which draw of a randomised defence answers.
    """

    model: str
    data: str
    images: tuple[int, ...] = (0, 1, 2, 3)
    attack: str = "pgd"
    norm: str = "linf"
    eps: str = "0.1"
    side: str = "before"
    knows: bool = False
    seconds: float = 10.0
    draw: int = 0

    def made(self) -> Attack | None:
        """The attack; ``None`` for none.

        Raises:
            ArgumentError: an unknown one, or values that it does not take.
        """
        if self.attack == "none":
            return None
        kind = ATTACKS.find(self.attack)
        given: dict[str, Any] = {"norm": self.norm} if self.norm else {}
        if has(kind, "eps"):
            given["eps"] = self.eps
        if has(kind, "seconds"):
            given["seconds"] = self.seconds / len(self.images)
        attack = made(kind, given, self.attack)
        return knowing(attack, DRAWS) if self.knows else attack


def asked(form: Mapping[str, str], model: str, data: str) -> LookRequest:
    """The request of a form; what it leaves out has its default.

    Args:
        model, data: where the form names none.

    Raises:
        ArgumentError: a field that is none of its kind.
    """
    base = LookRequest(model=form.get("model") or model, data=form.get("data") or data)
    images = positions(form["images"]) if form.get("images") else base.images
    return replace(
        base,
        images=images,
        attack=form.get("attack", base.attack),
        norm=form.get("norm", base.norm),
        eps=form.get("eps") or base.eps,
        side="after" if form.get("side") == "after" else "before",
        knows=bool(form.get("knows")),
        seconds=_within(form.get("seconds"), base.seconds, MOST_SECONDS, "seconds"),
        draw=int(_within(form.get("draw"), 0, 2**31, "draw")),
    )


def positions(text: str) -> tuple[int, ...]:
    """``3, 5-7`` as positions.

    >>> positions("3, 5-7")
    (3, 5, 6, 7)

    Raises:
        ArgumentError: something else, or more than can be shown.
    """
    found: list[int] = []
    for part in text.replace("–", "-").split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and len(first + last) < 20):
            raise _no_positions(text)
        start, end = int(first), int(last)
        if end < start or end - start >= MOST_IMAGES:
            raise _no_positions(text)
        found += range(start, end + 1)
    chosen = tuple(dict.fromkeys(found))
    if not chosen or len(chosen) > MOST_IMAGES:
        raise _no_positions(text)
    return chosen


def _no_positions(text: str) -> ArgumentError:
    return ArgumentError(
        expected=f"up to {MOST_IMAGES} positions of test images, counted from 0",
        got=f"{text!r:.60}",
        remedy="For example 0-7, or 3, 14, 15.",
    )


def _within(text: str | None, default: float, most: float, name: str) -> float:
    try:
        value = number(text) if text else default
    except (ValueError, ZeroDivisionError):
        value = -1.0
    if not 0 <= value <= most:
        raise ArgumentError(
            expected=f"{name} as a number from 0 to {most:g}", got=repr(text), remedy="Correct it."
        )
    return value
