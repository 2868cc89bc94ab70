"""A recipe: steps with options, checked as a whole before the first of them begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from suture.cli.recipe_steps import STEPS, checked, missing, options_of
from suture.cli.recipe_text import Place, read
from suture.errors import ArgumentError, unknown_name

MAKERS = ("train", "repair")
"""Steps that leave a model, which the next ones take."""


class Recipe(BaseModel):
    """What stands above the steps: shared by those that have such an option."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), coerce_numbers_to_str=True)

    suture: Literal[1] = 1
    folder: str | None = None
    seed: int | None = None
    data: str | None = None
    size: str | None = None
    model: str | None = None
    weights: str | None = None
    mean: str | None = None
    std: str | None = None
    range: str | None = None
    preset: str | None = None
    device: str | None = None
    engine: str | None = None
    workers: int | None = None
    address: str | None = None
    steps: list[dict[str, dict[str, Any] | None]]


_OF_THE_FILE = ("suture", "folder", "steps")


@dataclass(frozen=True)
class RecipeStep:
    """One command with its parameters, ready to be carried out.

    Attributes:
        command: its name.
        options: parameter of the command's function → value; "model" may still be open.
        line: where it stands.
    """

    command: str
    options: dict[str, Any]
    line: int


@dataclass(frozen=True)
class RecipePlan:
    """All steps of a recipe, and the folder of their runs (``None``: a folder each, by time)."""

    folder: Path | None
    steps: tuple[RecipeStep, ...]


def opened(path: Path) -> RecipePlan:
    """The plan of a recipe, after every key and value was checked.

    Raises:
        ArgumentError: naming the line and the nearest key of each mistake.
    """
    content, lines = read(path)
    mistakes: list[tuple[int, str]] = []
    try:
        recipe = Recipe(**content)
    except ValidationError as error:
        raise _refused(path, [_above(one, lines) for one in error.errors()]) from error
    shared = {
        key: value
        for key, value in recipe.model_dump(exclude=set(_OF_THE_FILE)).items()
        if value is not None
    }
    steps = []
    for index, entry in enumerate(recipe.steps):
        steps += _step(entry, index, shared, lines, mistakes)
    if len(steps) == len(recipe.steps):
        _check_models(steps, shared, mistakes)
    if not recipe.steps:
        mistakes.append((lines.get(("steps",), 1), "no step"))
    if mistakes:
        raise _refused(path, sorted(mistakes))
    return RecipePlan(Path(recipe.folder) if recipe.folder else None, tuple(steps))


def _step(
    entry: Mapping[str, Any],
    index: int,
    shared: Mapping[str, Any],
    lines: Mapping[Place, int],
    mistakes: list[tuple[int, str]],
) -> list[RecipeStep]:
    line = lines.get(("steps", index), 1)
    if len(entry) != 1:
        mistakes.append((line, "a step with several commands: begin each with a dash of its own"))
        return []
    ((command, given),) = entry.items()
    if command not in STEPS:
        mistakes.append((line, unknown_name("step", str(command), STEPS)))
        return []
    own = options_of(command)
    below = {key: value for key, value in shared.items() if key in own}
    if command == "bench":
        below.pop("data", None)
    values, wrong = checked(command, {**below, **(given or {})})
    for one in wrong:
        place = lines.get(("steps", index, command, one.key)) or lines.get((one.key,), line)
        mistakes.append((place, one.sentence))
    absent = [key for key in missing(command, values) if key != "model"] if not wrong else []
    for key in absent:
        mistakes.append((line, f"{command} without {key}"))
    return [RecipeStep(command, values, line)]


def _check_models(
    steps: list[RecipeStep], shared: Mapping[str, Any], mistakes: list[tuple[int, str]]
) -> None:
    """Every step that wants a model names one, or comes after one that makes one."""
    made = "model" in shared
    for step in steps:
        wants = "model" in options_of(step.command) and step.options.get("model") is None
        if wants and not made:
            mistakes.append((step.line, f"{step.command} without a model, and none made before"))
        made = made or step.command in MAKERS


def _above(error: Any, lines: Mapping[Place, int]) -> tuple[int, str]:
    """A mistake outside the steps' options, with its line."""
    place = tuple(part for part in error["loc"])
    line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), 1)
    if error["type"] == "extra_forbidden":
        return line, unknown_name("key", str(place[-1]), tuple(Recipe.model_fields))
    if error["type"] == "missing":
        return line, f"no {place[-1]}"
    key = next((str(part) for part in reversed(place) if isinstance(part, str)), "a value")
    if place[:1] == ("steps",):
        return line, "something other than a step (- command: {key: value})"
    return line, f"{error['input']!r} for {key}"


def _refused(path: Path, mistakes: list[tuple[int, str]]) -> ArgumentError:
    told = "; ".join(f"line {line}: {sentence}" for line, sentence in mistakes)
    count = f"{len(mistakes)} mistakes: " if len(mistakes) > 1 else ""
    return ArgumentError(
        expected=f"keys and values that suture knows in {path}",
        got=count + told,
        remedy="`suture COMMAND --help` and `suture methods NAME` say what a step can be told.",
    )
