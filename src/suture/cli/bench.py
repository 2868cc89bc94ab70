"""``suture bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from suture import studies
from suture.cli.common import (
    Bars,
    Device,
    Force,
    Json,
    Out,
    Seed,
    check_device,
    command_line,
    default_out,
    emit,
    timed,
)
from suture.cli.engines import (
    Address,
    EngineName,
    Workers,
    given_options,
    make_engine,
    resumed,
    watched,
)
from suture.engine import Run
from suture.errors import BundleError, StorageError
from suture.settings import assignments
from suture.studies import Study


def command(
    name: Annotated[
        str | None, typer.Argument(help="Which study; without one, the list of them.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="The paper's own sizes: hours.")] = False,
    data: Annotated[
        str | None, typer.Option("--data", help="Data set, where a study has a choice.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of a study's setting; repeatable.")
    ] = None,
    cells: Annotated[
        list[str] | None,
        typer.Option(help="Only cells that fit this pattern, such as '*-autoattack'; repeatable."),
    ] = None,
    engine: EngineName = "inline",
    workers: Workers = None,
    address: Address = None,
    out: Out = None,
    force: Force = False,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Measure a paper's tables again; the same --out goes on where a stopped run was.

    Example: suture bench vnncomp --out runs/vnncomp
    """
    if name is None:
        emit(as_json, {"studies": list(studies.STUDIES)}, _listing())
        return
    given = assignments(settings or [])
    given |= {"data": data} if data is not None else {}
    given |= {"full": "true"} if full else {}
    study = studies.STUDIES.find(name)().with_settings(given)
    study.check_device(place := check_device(device))
    run = resumed() or _opened(default_out(f"bench-{name}", out), study, seed, force)
    watched(run, "bench")
    spread = make_engine(engine, workers, address, threads=1)
    with run, spread, timed() as clock, Bars() as bars:
        rows, page = studies.run_study(
            study,
            run,
            seed=seed,
            only=cells or (),
            engine=spread,
            device=place,
            on_progress=bars,
        )
    show(as_json, study, rows, run, page, clock["seconds"])


def show(
    as_json: bool, study: Study, rows: list[studies.Row], run: Run, page: Path, seconds: float
) -> None:
    """A study's result on stdout."""
    facts: dict[str, Any] = {
        "study": study.name,
        "rows": rows,
        "run": str(run.folder),
        "report": str(page),
        "seconds": seconds,
    }
    emit(as_json, facts, "" if as_json else _text(study, rows, page))


def _listing() -> str:
    return "\n".join(f"{name:20} {study.title}" for name, study in studies.STUDIES.items())


def _opened(folder: Path, study: Study, seed: int, force: bool) -> Run:
    """A new run, or the stopped one of the same study, settings and seed to go on with."""
    try:
        earlier = Run.open(folder)
    except BundleError:
        earlier = None
    same = earlier is not None and (
        earlier.info.get("kind") == "bench"
        and earlier.info.get("seed") == seed
        and earlier.info.get("parts", {}).get("study") == repr(study)
    )
    if earlier is not None and same and not force:
        return Run.open(folder, lock=True)
    if earlier is not None and not force:
        raise StorageError(
            expected=f"a new folder, or a run of {study!r} with seed {seed}, at {folder}",
            got="another run",
            remedy="Choose another --out, or replace a bench run with --force.",
        )
    return Run.create(
        folder,
        kind="bench",
        title=study.title,
        command=command_line(),
        seed=seed,
        replace=force,
        parts={"study": repr(study)},
        options=given_options(),
    )


def _text(study: Study, rows: list[studies.Row], page: Path) -> str:
    parts = [table.terminal() for table in study.tables(rows)]
    return "\n\n".join([*parts, *study.notes(rows), f"page: {page}"])
