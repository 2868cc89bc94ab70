"""``suture resume``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from suture.cli.common import Json, say
from suture.cli.engines import (
    RESUMABLE,
    Address,
    EngineName,
    Workers,
    checked_options,
    resuming,
    watched,
)
from suture.cli.opening import (
    Trust,
)
from suture.engine import Run
from suture.errors import BundleError


def command(
    run: Annotated[Path, typer.Argument(help="The folder of a run that was stopped.")],
    engine: EngineName = "",
    workers: Workers = None,
    address: Address = None,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Go on with a run that was stopped or killed; the result is that of an unbroken one.

    Its options are those it was begun with; only where the work runs may be chosen anew.

    Example: suture resume runs/repaired
    """
    stopped = Run.open(run)
    name = str(stopped.info.get("kind"))
    if name not in RESUMABLE:
        raise BundleError(
            expected=f"a run of {', '.join(RESUMABLE)}",
            got=f"one of {name!r}",
            remedy="Such a run is short: run its command again.",
        )
    body = import_module(f"suture.cli.{name}").command
    stopped = Run.again(run)
    options = checked_options(body, stopped.info["options"]) | {"as_json": as_json}
    options |= _chosen(body, engine, workers, address, trust_code) | {"out": run}
    say(f"resuming {name} in {run}")
    watched(stopped, name)
    with stopped, resuming(stopped):
        body(**options)


def _chosen(
    body: object, engine: str, workers: int | None, address: str | None, trust_code: bool
) -> dict[str, object]:
    """Where the work goes on, as far as the command has a choice."""
    # Always this command's own answer, never that of a file that may come from elsewhere.
    given: dict[str, object] = {"trust_code": trust_code}
    if engine:
        given |= {"engine": engine, "workers": workers, "address": address}
    known = getattr(body, "__annotations__", {})
    return {key: value for key, value in given.items() if key in known}
