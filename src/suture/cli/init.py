"""``suture init``: a recipe to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suture.cli.common import Force, Json, emit
from suture.cli.recipe_text import EXAMPLE
from suture.errors import StorageError
from suture.storage import write_text


def command(
    recipe: Annotated[Path, typer.Argument(help="File to write.")] = Path("recipe.yaml"),
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a commented recipe to begin with; `suture run` carries it out.

    Example: suture init recipe.yaml
    """
    if recipe.exists() and not force:
        raise StorageError(
            expected=f"no file at {recipe}",
            got="one",
            remedy="Choose another name, or --force to write over it.",
        )
    write_text(recipe, EXAMPLE.format(name=recipe, folder=Path("runs") / recipe.stem))
    emit(as_json, {"recipe": str(recipe)}, f"{recipe}: read it, then suture run {recipe}")
