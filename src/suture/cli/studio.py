"""``suture studio``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from suture.cli.choices import make_repair
from suture.cli.common import Json, emit, open_data, say
from suture.cli.engines import RESUMABLE
from suture.cli.opening import open_model
from suture.cli.options import Opening, grouped
from suture.cli.recipe_steps import checked
from suture.data import Dataset
from suture.engine import Run
from suture.engine.shelf import runs_below
from suture.errors import ArgumentError
from suture.settings import assignments
from suture.studio.server import PORT, needed, serve
from suture.studio.shelf import RunShelf
from suture.studio.tools import StudioTools

RUNS = Path("runs")


@grouped
def command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[RUN | MODEL]",
            help="A folder of runs, one run, or a model as other commands take it.",
        ),
    ] = "runs",
    data: Annotated[
        str, typer.Option("--data", help="The data that pages begin with; a run names its own.")
    ] = "",
    port: Annotated[int, typer.Option(help="Where to listen; 0 takes any free port.")] = PORT,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: Json = False,
    *,
    opening: Opening,
) -> None:
    """A local page over runs: reports, single images under live attacks, repairs, comparisons.

    Only this machine reaches it, with the address that is printed. Ctrl-C ends it.

    Example: suture studio runs --data digits
    """
    needed()
    from suture.studio.app import Studio

    folder, model, own = _place(what)
    studio = Studio(RunShelf(folder), _tools(opening, model), model, data or own)

    def ready(url: str) -> None:
        emit(as_json, {"url": url, "runs": str(folder)}, f"studio: {url} (Ctrl-C ends it)")
        sys.stdout.flush()
        if show:
            typer.launch(url)

    say(serve(studio, port, ready))


def _place(what: str) -> tuple[Path, str, str]:
    """``(folder of the runs, model, data)`` that an argument stands for."""
    path = Path(what)
    if (path / "run.json").is_file():
        options = Run.open(path).info.get("options")
        options = options if isinstance(options, dict) else {}
        return path.parent, *_begins_with(path, options)
    if path == RUNS or (path.is_dir() and any(runs_below(path))):
        return path, "", ""
    return RUNS, what, ""


def _begins_with(run: Path, options: dict[str, Any]) -> tuple[str, str]:
    """The model of a run, or the one that it measured, and its data."""
    own = (run / "artifacts" / "model" / "manifest.json").is_file()
    model = str(run) if own else options.get("model") or ""
    return str(model), str(options.get("data") or "")


def _tools(opening: Opening, named: str) -> StudioTools:
    def model(reference: str, dataset: Dataset) -> nn.Module:
        if reference == named:  # What was said of weights and normalisation is about this one.
            return opening.model(reference, dataset)
        return open_model(reference, dataset, device=opening.place)

    return StudioTools(
        open_data=open_data,
        open_model=model,
        check_repair=_check_repair,
        command=lambda words: [sys.executable, "-c", _CODE, *words],
        resumable=RESUMABLE,
    )


_CODE = "from suture.cli import main; main()"


def _check_repair(given: Mapping[str, object]) -> None:
    """Raises for what ``suture repair`` would refuse before it begins."""
    values, mistakes = checked("repair", given)
    if mistakes:
        raise ArgumentError(
            expected="options that `suture repair` has",
            got="; ".join(one.sentence for one in mistakes),
            remedy="`suture methods NAME` says what a method can be told.",
        )
    flags = {name: values.get(name) for name in ("norm", "eps", "queries", "steps")}
    flags |= {name: values.get(name) for name in ("samples", "epochs")}
    settings: Sequence[str] = values.get("settings") or []
    make_repair(str(values["method"]), values.get("against"), assignments(settings), **flags)
