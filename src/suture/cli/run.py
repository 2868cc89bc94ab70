"""``suture run``: a recipe, step by step; what is finished is not done again."""

from __future__ import annotations

import inspect
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from suture.cli import stopping
from suture.cli.common import Json, say
from suture.cli.engines import given_options, remembered, resuming, watched
from suture.cli.opening import (
    Trust,
)
from suture.cli.recipe_steps import body_of, options_of
from suture.cli.recipes import MAKERS, RecipePlan, RecipeStep, opened
from suture.engine import Run
from suture.engine.runs import FINISHED, RECIPE
from suture.errors import BundleError, StorageError


def command(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe, or a run folder that is to be repeated.")
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Read it and say what is wrong; do nothing.")
    ] = False,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Carry out a recipe, step by step; after Ctrl-C the same line goes on.

    The whole recipe is checked first. Steps that are finished are passed over, one that was stopped
    is gone on with. `suture init` writes a recipe to begin with; every run keeps its own.

    Example: suture run recipe.yaml
    """
    path = recipe / RECIPE if recipe.is_dir() else recipe
    plan = opened(path)
    if check:
        say(f"{path}: {len(plan.steps)} steps, nothing wrong")
        return
    stopping.recipe(path if plan.folder is not None else None)
    model: str | None = None
    for step, folder in zip(plan.steps, _folders(plan), strict=True):
        options = _complete(step, folder, model, trust_code=trust_code, as_json=as_json)
        made = _carried_out(step, folder, options)
        model = made if step.command in MAKERS else model


def _folders(plan: RecipePlan) -> list[Path | None]:
    """Where each step's run goes: ``folder/COMMAND``, the second of a kind ``COMMAND-2``."""
    seen: Counter[str] = Counter()
    found: list[Path | None] = []
    for step in plan.steps:
        seen[step.command] += 1
        number = seen[step.command]
        name = step.command if number == 1 else f"{step.command}-{number}"
        given = step.options.get("out")
        found.append(given or (plan.folder / name if plan.folder is not None else None))
    return found


def _complete(
    step: RecipeStep, folder: Path | None, model: str | None, **always: Any
) -> dict[str, Any]:
    """All parameters of the command."""
    parameters = inspect.signature(body_of(step.command)).parameters
    options = {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    options |= step.options
    if "model" in options_of(step.command) and step.options.get("model") is None:
        options["model"] = model
    if "out" in parameters:
        options["out"] = folder
    return options | {name: value for name, value in always.items() if name in parameters}


def _carried_out(step: RecipeStep, folder: Path | None, options: dict[str, Any]) -> str:
    """Do a step, or what is left of it; the folder of its run."""
    body = body_of(step.command)
    if step.command == "export":
        options["force"] = True
    earlier = _earlier(folder) if step.command not in ("export", "attack", "slice") else None
    say(f"{step.command}{f' → {folder}' if folder else ''}")
    if earlier is None:
        remembered(body)(**options)
        return str(folder or stopping.current())
    _check_same(step, earlier, options)
    if earlier.info.get("status") == FINISHED:
        say(f"  finished before: {folder}")
    else:
        _go_on(step, earlier, options)
    return str(folder)


def _earlier(folder: Path | None) -> Run | None:
    if folder is None:
        return None
    try:
        return Run.open(folder)
    except BundleError:
        return None


def _check_same(step: RecipeStep, run: Run, options: dict[str, Any]) -> None:
    """The earlier run is of this very step."""
    kept, wanted = run.info.get("options") or {}, _as_kept(options)
    other = [
        f"{key} {kept.get(key)!r}, now {value!r}"
        for key, value in wanted.items()
        if kept.get(key) != value and key not in ("as_json", "out", "engine", "workers", "address")
    ]
    if run.info.get("kind") != step.command or other:
        raise StorageError(
            expected=f"a run of this very step in {run.folder}",
            got=f"one with {other[0]}" if other else f"a run of {run.info.get('kind')!r}",
            remedy="Give the recipe another folder, or remove that run: "
            f"suture runs rm {run.folder}.",
        )


def _as_kept(options: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def note(**given: Any) -> None:
        found.update(given_options() or {})

    remembered(note)(**options)
    return found


def _go_on(step: RecipeStep, run: Run, options: dict[str, Any]) -> None:
    stopped = Run.again(run.folder)
    watched(stopped, step.command)

    def body(**given: Any) -> None:
        with stopped, resuming(stopped):
            body_of(step.command)(**given)

    remembered(body)(**options)
