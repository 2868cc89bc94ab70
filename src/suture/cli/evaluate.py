"""``suture evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from suture.attacks import ATTACKS
from suture.cli import results
from suture.cli.choices import (
    Eps,
    Model,
    Norm,
    Queries,
    Steps,
    Trust,
    Weights,
    make_attacks,
    open_model,
)
from suture.cli.common import (
    Data,
    Device,
    FittingBatch,
    Force,
    Json,
    Number,
    Out,
    Seed,
    check_device,
    fitting,
    held_out,
    open_data,
)
from suture.cli.engines import Address, EngineName, Workers, begin, make_engine
from suture.cli.fields import Settings, fields_command
from suture.engine import Run
from suture.evaluate import Plan, Role, Subject, tier_of
from suture.settings import assignments
from suture.types import undefended_of

_DEFAULT = Plan()
Command = fields_command("--attack", ATTACKS, "square")


def command(
    model: Model,
    data: Data,
    protocol: Annotated[
        list[str] | None, typer.Option(help="paper, adaptive; give it twice for both (default).")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="The undefended model; a repaired one knows its own base."),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Out of {', '.join(ATTACKS)}; repeatable, with --help: their "
            "fields. The first is the paper protocol's; default: what the repair was made against."
        ),
    ] = None,
    tier: Annotated[
        str, typer.Option(help="What an adaptive attacker tries: quick, standard or deep.")
    ] = "standard",
    attacker: Annotated[
        list[str] | None,
        typer.Option(
            help="Where the attacker of a defence that moves images (A5) stands: after, before; "
            "give it twice for both (default)."
        ),
    ] = None,
    norm: Norm = None,
    eps: Eps = None,
    queries: Queries = None,
    steps: Steps = None,
    eot: Annotated[
        list[int] | None, typer.Option(help="Draws averaged by the adaptive attacker; repeatable.")
    ] = None,
    settings: Settings = None,
    repeats: Annotated[int, typer.Option(help="Of randomised rows.", min=1)] = _DEFAULT.repeats,
    curve: Annotated[bool, typer.Option(help="Measure accuracy against radius.")] = True,
    n: Number = 500,
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
    """Measure clean and robust accuracy, as the paper does and against an adaptive attacker.

    Example: suture evaluate runs/repaired --data mnist --protocol paper --protocol adaptive
    """
    dataset = open_data(data)
    device = check_device(device)
    threat = _threat(model, attack=attack, norm=norm, eps=eps, queries=queries, steps=steps)
    first, *others = make_attacks(threat.pop("attack"), assignments(settings or []), **threat)
    plan = Plan(
        attack=first,
        also=tuple(others),
        tier=tier_of(tier),
        positions=tuple(attacker) if attacker else _DEFAULT.positions,  # type: ignore[arg-type]
        protocols=tuple(protocol) if protocol else _DEFAULT.protocols,  # type: ignore[arg-type]
        eot=tuple(eot) if eot else _DEFAULT.eot,
        repeats=repeats,
        radii=_DEFAULT.radii if curve else (),
    )
    classifier = open_model(model, dataset, weights=weights, trust_code=trust_code, device=device)
    before = undefended_of(classifier) if base is None else open_model(base, dataset, device=device)
    subjects = [Subject(Role.UNDEFENDED, before or classifier, base or model)]
    if before is not None:
        subjects.append(Subject(Role.DEFENDED, classifier, model, _defence(model, classifier)))
    batch = held_out(dataset, n, device)
    spread = make_engine(engine, workers, address)
    run = begin(
        "evaluate",
        title=f"{Path(model).name} evaluated on {Path(data).name}",
        out=out,
        seed=seed,
        force=force,
        parts={"model": model, "base": base or "the model's own"},
    )
    results.measure(
        subjects,
        batch,
        plan,
        dataset,
        run,
        spread,
        seed=seed,
        batch_size=fitting(batch_size, dataset.in_shape),
        as_json=as_json,
    )


def _threat(model: str, **given: Any) -> dict[str, Any]:
    """Options as given; where left out, what the repair run was made against."""
    recorded: dict[str, Any] = {}
    if (Path(model) / "run.json").is_file():
        recorded = Run.open(Path(model)).info.get("threat", {})
    defaults = {"attack": ["square"]}
    chosen = {key: value for key, value in given.items() if value not in (None, [])}
    if "attack" in chosen:
        # Budgets of one attack mean nothing to another.
        recorded = {k: v for k, v in recorded.items() if k in ("norm", "eps")}
    if "attack" in recorded:
        recorded["attack"] = [recorded["attack"]]
    if "eps" in recorded:
        recorded["eps"] = float(recorded["eps"])  # "inf" is written in words
    return defaults | {k: v for k, v in recorded.items() if v is not None} | chosen


def _defence(reference: str, model: nn.Module) -> str:
    if (Path(reference) / "run.json").is_file():
        return str(Run.open(Path(reference)).info["parts"].get("repair", type(model).__name__))
    return type(model).__name__
