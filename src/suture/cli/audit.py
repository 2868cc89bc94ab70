"""``suture audit``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from suture.attacks import APGD, Attack, AutoAttack, Square
from suture.cli import results
from suture.cli.choices import Model, Trust, Weights, open_model
from suture.cli.common import (
    BatchSize,
    Data,
    Device,
    Force,
    Json,
    Out,
    Seed,
    check_device,
    held_out,
    open_data,
)
from suture.cli.engines import Address, EngineName, Workers, begin, make_engine
from suture.errors import ArgumentError
from suture.evaluate import Plan, Role, Subject


@dataclass(frozen=True)
class Tier:
    """How much an audit spends: images, queries per image, gradient steps, draws, radii."""

    images: int
    queries: int
    steps: int
    eot: tuple[int, ...]
    radii: tuple[float, ...]

    def also(self, norm: str, eps: float) -> tuple[Attack, ...]:
        """Attacks beyond Square and PGD."""
        threat: dict[str, Any] = {"norm": norm, "eps": eps}
        if self.steps < 100:
            losses: tuple[Any, ...] = ("ce", "dlr-targeted")
            threat |= {"steps": self.steps, "classes": 3}
            return tuple(APGD(loss=loss, **threat) for loss in losses)
        return (AutoAttack(**threat),)


TIERS = {
    "quick": Tier(100, 500, 20, (10,), (0.5, 1.0, 2.0)),
    "standard": Tier(500, 2_000, 50, (1, 10), Plan().radii),
    "full": Tier(2_000, 5_000, 100, (1, 10, 50), Plan().radii),
}


def command(
    model: Model,
    data: Data,
    tier: Annotated[str, typer.Option(help="quick, standard or full.")] = "quick",
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    eps: Annotated[float, typer.Option(help="Radius, in pixel values of [0, 1].")] = 8 / 255,
    n: Annotated[int | None, typer.Option("--n", help="Held-out images.", min=1)] = None,
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
    """Find out how fragile a classifier is: black-box, white-box, noise, accuracy against radius.

    Example: suture audit runs/cnn --data mnist --eps 0.1
    """
    if tier not in TIERS:
        raise ArgumentError(
            expected=f"a tier out of {', '.join(TIERS)}", got=repr(tier), remedy="Start with quick."
        )
    chosen = TIERS[tier]
    dataset = open_data(data)
    device = check_device(device)
    classifier = open_model(model, dataset, weights=weights, trust_code=trust_code, device=device)
    batch = held_out(dataset, n or chosen.images, device)
    attack = Square(norm=norm, eps=eps, queries=chosen.queries)  # type: ignore[arg-type]
    plan = Plan(
        attack=attack,
        pgd_steps=chosen.steps,
        eot=chosen.eot,
        also=chosen.also(norm, eps),
        radii=chosen.radii,
        tier=tier,
    )
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
        batch_size=batch_size,
        as_json=as_json,
    )
