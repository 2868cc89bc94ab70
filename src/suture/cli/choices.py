"""From options to parts: attacks and repairs by name, radii as people write them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from suture.attacks import ATTACKS, Attack
from suture.cli.engines import note
from suture.data import Dataset
from suture.errors import ArgumentError
from suture.repairs import REPAIRS, Repair
from suture.settings import has, made, number


def radius(text: str | float) -> float:
    """A radius as people write it; a ``BadParameter`` for what is none, or negative."""
    try:
        value = number(str(text))
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if value >= 0:
        return value
    error = ArgumentError(
        expected="a radius for --eps: a number or a fraction, at least 0",
        got=repr(text),
        remedy="For example 0.1, 8/255, or inf.",
    )
    raise typer.BadParameter(str(error)) from error


Norm = Annotated[
    str | None, typer.Option("--norm", help="linf, l2, l1 or l0, as the attack allows.")
]
Eps = Annotated[
    float | None,
    typer.Option(
        "--eps",
        help="Radius, pixel values in [0, 1] (8/255 is understood), or pixels for l0; default: "
        "the method's.",
        parser=radius,
        metavar="RADIUS",
    ),
]
Queries = Annotated[
    int | None, typer.Option("--queries", help="Budget per image of black-box attacks.", min=1)
]
Steps = Annotated[int | None, typer.Option("--steps", help="Steps of gradient attacks.", min=1)]


def make_attack(name: str, settings: Mapping[str, str] | None = None, **flags: Any) -> Attack:
    """The attack of that name.

    Args:
        settings: field → value as text.
        flags: fields by option; ``None`` means the attack's own default.

    Raises:
        ArgumentError: unknown name, or an option that this attack does not have.
    """
    (attack,) = make_attacks([name], settings, **flags)
    return attack


def make_attacks(
    names: Sequence[str], settings: Mapping[str, str] | None = None, **flags: Any
) -> list[Attack]:
    """The attacks of those names; each takes the options that it has.

    Raises:
        ArgumentError: unknown name, or an option that none of them has.
    """
    kinds = [ATTACKS.find(name) for name in names]
    given = {key: value for key, value in flags.items() if value is not None}
    for key in given:
        if not any(has(kind, key) for kind in kinds):
            raise _surplus(key, " or ".join(names))
    given |= settings or {}
    known = {key for key in given if any(has(kind, key) for kind in kinds)}
    return [
        made(kind, {k: v for k, v in given.items() if k not in known or has(kind, k)}, name)
        for name, kind in zip(names, kinds, strict=True)
    ]


_PATHS = {
    "norm": ("attack.norm", "norm"),
    "eps": ("attack.eps", "eps"),
    "queries": ("attack.queries", "queries"),
    "steps": ("steps", "attack.steps"),
    "samples": ("samples",),
    "epochs": ("epochs", "schedule", "grid.epochs"),
}
"""Where an option goes, first where the method has the field."""


def make_repair(
    name: str, against: str | None, settings: Mapping[str, str], **flags: Any
) -> Repair:
    """The repair of that name.

    Args:
        against: name of the attack that it withstands, for methods that have one; ``None``:
            square.
        settings: field → value as text; goes before the flags.
        flags: the common options; ``None`` means the method's own default.

    Raises:
        ArgumentError: unknown name, field or value, or an option without a meaning here.
    """
    kind, given = REPAIRS.find(name), dict[str, Any]()
    attack = settings.get("attack", against or "square") if has(kind, "attack") else None
    if attack is not None:
        given["attack"] = attack
    elif against is not None:
        raise _surplus("against", name)
    for flag, value in flags.items():
        if value is not None:
            path = _path(flag, kind, attack)
            if path is None:
                raise _surplus(flag, f"{name} against {attack}" if attack else name)
            given[path] = _default_of(kind, path).shortened(value) if path == "schedule" else value
    return made(kind, given | dict(settings), name)


def _path(flag: str, kind: type[Repair], attack: str | None) -> str | None:
    for path in _PATHS[flag]:
        part, _, field = path.partition(".")
        if part == "attack" and attack is not None and has(ATTACKS.find(attack), field):
            return path
        if part != "attack" and has(kind, path):
            return path
    return None


def _default_of(kind: type, name: str) -> Any:
    (field,) = (field for field in dataclasses.fields(kind) if field.name == name)
    return field.default


def _surplus(option: str, whose: str) -> ArgumentError:
    return ArgumentError(
        expected=f"options that {whose} has",
        got=f"--{option}",
        remedy=f"Leave --{option} out; `suture methods NAME` lists what a method can be told.",
    )


def reachable(norm: str, eps: float, dataset: Dataset) -> None:
    """A note where a radius is so large that nothing can hold.

    Raises:
        ArgumentError: every image can be turned into plain grey.
    """
    if math.isinf(eps) or norm == "l0":
        return
    size = math.prod(dataset.in_shape)
    far = 0.5 * {"linf": 1.0, "l2": math.sqrt(size), "l1": float(size)}[norm]
    images = "x".join(map(str, dataset.in_shape))
    if eps >= far and norm != "linf":
        raise ArgumentError(
            expected=f"an {norm} radius below {far:.4g} for images of {images}: from there on any "
            "image can be turned into plain grey, and nothing can hold",
            got=f"eps={eps:g}",
            remedy="Radii are in pixel values of [0, 1]"
            + (": usual for l2 are 0.5 to 3, and 0.5 on CIFAR-10." if norm == "l2" else "."),
        )
    if eps >= far / 4 and norm == "l2":
        note(
            f"an l2 radius of {eps:g} is large for images of {images}: {far:.3g} turns any image "
            "into plain grey; usual are 0.5 to 3."
        )
