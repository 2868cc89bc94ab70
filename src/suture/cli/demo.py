"""``suture demo``: one real classifier, all the way to a report page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from suture import models
from suture.attacks import Square
from suture.cli import results
from suture.cli.common import (
    Bars,
    BatchSize,
    Device,
    Json,
    Number,
    Seed,
    check_device,
    emit,
    open_data,
    timed,
)
from suture.cli.engines import Address, EngineName, Workers, begin, make_engine
from suture.engine.threads import torch_threads
from suture.evaluate import Plan
from suture.pipeline import harden
from suture.repairs import DefEnSyn
from suture.training import TrainConfig, train

EPS = 0.2
QUERIES = 300
PROGRAMS = 100_000


def command(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("suture-demo"),
    n: Number = 200,
    batch_size: BatchSize = 256,
    engine: EngineName = "inline",
    workers: Workers = None,
    address: Address = None,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Train on embedded digits, attack, repair, evaluate both ways, and write the page.

    Example: suture demo --out suture-demo
    """
    dataset = open_data("digits")
    device = check_device(device)
    spread = make_engine(engine, workers, address)
    title = "A digit classifier, repaired with DefEnSyn"
    run = begin("demo", title=title, out=out, seed=seed, force=True)
    attack = Square(norm="linf", eps=EPS, queries=QUERIES)
    method = DefEnSyn(attack=attack, programs_per_length=PROGRAMS, temperature=20.0)
    plan = Plan(attack=attack, eot=(1, 10, 50), radii=(0.25, 0.5, 1.0, 1.5))
    with run, spread, timed() as clock, Bars() as bars, torch_threads(1):
        trained = train(
            models.build("digits_cnn", mean=dataset.mean, std=dataset.std, seed=seed),
            dataset,
            config=TrainConfig(epochs=20),
            seed=seed,
            device=device,
            history=run.folder / "checkpoints" / "training",
            resume=True,
            on_progress=lambda p: bars("training digits_cnn", p.epoch, p.epochs),
        )
        run.note_parts(model="digits_cnn")
        outcome = harden(
            trained.model,
            dataset,
            method,
            plan,
            run,
            n=n,
            seed=seed,
            device=device,
            engine=spread,
            batch_size=batch_size,
            on_progress=bars,
        )
    facts: dict[str, Any] = results.answer(
        outcome.records, run.folder, outcome.page, clock["seconds"]
    )
    emit(as_json, facts, "" if as_json else results.text(outcome.records, facts))
