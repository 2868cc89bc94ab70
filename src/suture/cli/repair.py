"""``suture repair``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suture.cli.choices import (
    Eps,
    Model,
    Norm,
    Queries,
    Steps,
    Trust,
    Weights,
    make_repair,
    open_model,
)
from suture.cli.common import (
    Bars,
    BatchSize,
    Data,
    Device,
    Force,
    Json,
    Out,
    Seed,
    check_device,
    emit,
    open_data,
    say,
    timed,
)
from suture.cli.engines import Address, EngineName, Workers, begin, make_engine
from suture.cli.fields import Settings, fields_command
from suture.cli.repaired import repair_facts, repair_text
from suture.pipeline import repair as repair_in
from suture.repairs import REPAIRS
from suture.settings import assignments

Command = fields_command("--method", REPAIRS, "defensyn")


def command(
    model: Model,
    data: Data,
    method: Annotated[
        str, typer.Option(help=f"{', '.join(REPAIRS)}. With --help: its fields.")
    ] = "defensyn",
    against: Annotated[
        str | None,
        typer.Option(help="The attack to withstand, for methods that have one; default: square."),
    ] = None,
    norm: Norm = None,
    eps: Eps = None,
    queries: Queries = None,
    steps: Steps = None,
    samples: Annotated[int | None, typer.Option(help="Training images used.", min=1)] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the training images; schedules are shortened.", min=1),
    ] = None,
    settings: Settings = None,
    batch_size: BatchSize = 256,
    engine: EngineName = "inline",
    workers: Workers = None,
    address: Address = None,
    out: Out = None,
    force: Force = False,
    weights: Weights = None,
    trust_code: Trust = False,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Repair a classifier; the repaired one is kept in the run folder.

    Example: suture repair runs/cnn --data mnist --against square --norm linf --eps 0.15
    """
    dataset = open_data(data)
    device = check_device(device)
    flags = {"norm": norm, "eps": eps, "queries": queries, "steps": steps}
    flags |= {"samples": samples, "epochs": epochs}
    repair = make_repair(method, against, assignments(settings or []), **flags)
    repair = repair.beside(Path(model))
    classifier = open_model(model, dataset, weights=weights, trust_code=trust_code, device=device)
    if note := repair.seen(dataset).note:
        say(note)
    spread = make_engine(engine, workers, address)
    run = begin(
        "repair",
        title=f"{Path(model).name} repaired with {type(repair).__name__}",
        out=out,
        seed=seed,
        force=force,
        parts={"model": model},
    )
    run.info["threat"] = repair.threat
    with run, spread, timed() as clock, Bars() as bars:
        result = repair_in(
            classifier,
            dataset,
            repair,
            run,
            seed=seed,
            engine=spread,
            batch_size=batch_size,
            on_progress=bars,
        )
    run.finish()
    facts = repair_facts(result, str(run.folder), clock["seconds"], seed) | {"data": data}
    emit(as_json, facts, repair_text(facts))
