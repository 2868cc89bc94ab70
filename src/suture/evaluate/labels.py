"""What a record is about, as data for programs and as a label for people.

Labels are made from the typed fields and never read back: nothing compares or takes apart a label.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suture.attacks import Attack

WORST = "strongest attack per image"
EVERY = "right under every program (worst of K)"


def attack_identity(attack: Attack) -> dict[str, Any]:
    """Name and parameters of an attack, for strict JSON: infinity is the text ``"inf"``.

    >>> from suture.attacks import DeepFool
    >>> attack_identity(DeepFool(norm="l2"))["parameters"]["eps"]
    'inf'
    """
    fields = dataclasses.fields(attack)
    parameters = {field.name: plain(getattr(attack, field.name)) for field in fields}
    return {"name": type(attack).__name__, "parameters": parameters}


def plain(value: Any) -> Any:
    """A parameter as JSON has it; what JSON has no word for as its ``repr``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return attack_identity(value)  # type: ignore[arg-type]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def describe(attack: Mapping[str, Any], threat: Mapping[str, Any]) -> str:
    """A short label: name, loss where there is a choice, budget, norm, radius."""
    words = (named(attack), _budget(attack), *_ball(threat))
    return " ".join(word for word in words if word)


def _budget(attack: Mapping[str, Any]) -> str:
    """What tells a short search from a long one: its queries, or steps and restarts."""
    spent = attack.get("parameters", {})
    if "version" in spent:
        return ""
    if spent.get("queries") is not None:
        return f"{spent['queries']} queries"
    if spent.get("steps") is None:
        return ""
    times = spent.get("restarts", 1)
    return f"{times}×{spent['steps']} steps" if times != 1 else f"{spent['steps']} steps"


def named(attack: Mapping[str, Any]) -> str:
    """The attack's name, and its loss or version where there is a choice: ``APGD-ce``."""
    given = attack.get("parameters", {})
    choice = given.get("loss") or given.get("version")
    return f"{attack.get('name', 'attack')}{f'-{choice}' if choice else ''}"


def _ball(threat: Mapping[str, Any]) -> tuple[str, str]:
    eps = threat.get("eps")
    radius = "unbounded" if eps in ("inf", math.inf) else f"ε={eps:.4g}" if eps is not None else ""
    return threat.get("norm", ""), radius


def label(
    kind: str,
    attack: Mapping[str, Any],
    threat: Mapping[str, Any],
    *,
    draws: object = None,
    through: str = "",
    position: str = "",
    program: int | None = None,
) -> str:
    """A record in words for a table: ``PGD linf ε=0.1, 10 draws, attacker before R``."""
    spent, where = attack.get("parameters", {}), f", attacker {position} R" if position else ""
    whole = {
        "clean": "clean",
        "strongest": WORST,
        "every": EVERY,
        "noise": f"random noise, {spent.get('queries')} tries",
        "transfer": f"images made on the {through or 'undefended'} model",
        "certified": " ".join(("certified by", str(attack.get("name")), *_ball(threat))),
    }
    if kind in whole:
        return whole[kind] + where
    under = describe(attack, threat)
    words = {
        "unbounded": f"unbounded radius ({under})",
        "fewer": f"fewer steps ({under})",
    }
    alone = [] if program is None else [f"program {program} alone"]
    added = [*alone, *variant(draws, through, position)]
    return ", ".join([words.get(kind, under), *added])


def variant(draws: object, through: str, position: str) -> list[str]:
    """How an attack met the model, in words: what a query averaged, whose gradients, from where."""
    known: dict[object, str] = {None: "", "exact": "exact mean", 1: "1 draw"}
    averaged = known.get(draws, f"{draws} draws")
    route = f"through {through}" if through else ""
    where = f"attacker {position} R" if position else ""
    return [word for word in (averaged, route, where) if word]
