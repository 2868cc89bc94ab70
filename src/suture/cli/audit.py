"""``suture audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suture.attacks import Square
from suture.cli import results
from suture.cli.choices import Model, Trust, Weights, open_model
from suture.cli.common import (
    Data,
    Device,
    FittingBatch,
    Force,
    Json,
    Out,
    Seed,
    check_device,
    fitting,
    held_out,
    open_data,
)
from suture.cli.engines import Address, EngineName, Workers, begin, make_engine
from suture.evaluate import Plan, Role, Subject, tier_of

IMAGES = {"quick": 100, "standard": 500, "deep": 2_000}
_CURVES = {"quick": (0.5, 1.0, 2.0)}


def command(
    model: Model,
    data: Data,
    tier: Annotated[str, typer.Option(help="quick, standard or deep.")] = "quick",
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    eps: Annotated[float, typer.Option(help="Radius, in pixel values of [0, 1].")] = 8 / 255,
    n: Annotated[int | None, typer.Option("--n", help="Held-out images.", min=1)] = None,
    batch_size: FittingBatch = None,
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
    """Find out how fragile a classifier is: black-box, white-box, noise, accuracy against radius.

    Example: suture audit runs/cnn --data mnist --eps 0.1
    """
    chosen = tier_of(tier)
    dataset = open_data(data)
    device = check_device(device)
    classifier = open_model(model, dataset, weights=weights, trust_code=trust_code, device=device)
    batch = held_out(dataset, n or IMAGES[tier], device)
    attack = Square(norm=norm, eps=eps, queries=chosen.queries)  # type: ignore[arg-type]
    plan = Plan(attack=attack, tier=chosen, radii=_CURVES.get(tier, Plan().radii))
    spread = make_engine(engine, workers, address)
    run = begin(
        "audit",
        title=f"{Path(model).name} audited on {Path(data).name}",
        out=out,
        seed=seed,
        force=force,
        parts={"model": model},
    )
    results.measure(
        [Subject(Role.UNDEFENDED, classifier, model)],
        batch,
        plan,
        dataset,
        run,
        spread,
        seed=seed,
        batch_size=fitting(batch_size, dataset.in_shape),
        as_json=as_json,
    )
