"""``suture evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from torch import nn

from suture.attacks import ATTACKS, Attack
from suture.cli import results
from suture.cli.choices import (
    Eps,
    Norm,
    Queries,
    Steps,
    make_attacks,
    reachable,
)
from suture.cli.common import (
    Data,
    FittingBatch,
    KeptImages,
    Number,
    Size,
    fitting,
    held_out,
    keep_images,
    open_data,
)
from suture.cli.fields import Settings, fields_of_chosen
from suture.cli.opening import (
    Model,
    open_model,
)
from suture.cli.options import Keeping, Opening, Spreading, grouped
from suture.data import Dataset
from suture.engine import Run
from suture.evaluate import Plan, Role, Subject, tier_of
from suture.settings import assignments
from suture.types import described, undefended_of

_DEFAULT = Plan()
Command = fields_of_chosen("--attack", ATTACKS, "square")


@dataclass(frozen=True)
class Measuring:
    """What is measured, and how hard is tried."""

    panel: ClassVar[str] = "What is measured"
    protocol: Annotated[
        list[str] | None, typer.Option(help="paper, adaptive; give it twice for both (default).")
    ] = None
    tier: Annotated[
        str, typer.Option(help="What an adaptive attacker tries: quick, standard or deep.")
    ] = "standard"
    attacker: Annotated[
        list[str] | None,
        typer.Option(
            help="Where the attacker of a defence that moves images (A5) stands: after, before; "
            "give it twice for both (default)."
        ),
    ] = None
    eot: Annotated[
        list[int] | None, typer.Option(help="Draws averaged by the adaptive attacker; repeatable.")
    ] = None
    repeats: Annotated[int, typer.Option(help="Of randomised rows.", min=1)] = _DEFAULT.repeats
    curve: Annotated[bool, typer.Option(help="Measure accuracy against radius.")] = True

    def plan(self, attacks: list[Attack]) -> Plan:
        """The plan; the first attack is the paper protocol's."""
        return Plan(
            attack=attacks[0],
            also=tuple(attacks[1:]),
            tier=tier_of(self.tier),
            positions=tuple(self.attacker) if self.attacker else _DEFAULT.positions,  # type: ignore[arg-type]
            protocols=tuple(self.protocol) if self.protocol else _DEFAULT.protocols,  # type: ignore[arg-type]
            eot=tuple(self.eot) if self.eot else _DEFAULT.eot,
            repeats=self.repeats,
            radii=_DEFAULT.radii if self.curve else (),
        )


@grouped
def command(
    model: Model,
    data: Data,
    size: Size = None,
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
    norm: Norm = None,
    eps: Eps = None,
    queries: Queries = None,
    steps: Steps = None,
    settings: Settings = None,
    n: Number = 500,
    batch_size: FittingBatch = None,
    pictures: KeptImages = "some",
    *,
    measuring: Measuring,
    opening: Opening,
    spreading: Spreading,
    keeping: Keeping,
) -> None:
    """Measure clean and robust accuracy, as the paper does and against an adaptive attacker.

    Example: suture evaluate runs/repaired --data mnist --protocol paper --protocol adaptive
    """
    dataset, kept = open_data(data, size), keep_images(pictures)
    threat = _threat(model, attack=attack, norm=norm, eps=eps, queries=queries, steps=steps)
    attacks = make_attacks(threat.pop("attack"), assignments(settings or []), **threat)
    plan = measuring.plan(attacks)
    for one in attacks:
        reachable(one.norm, one.eps, dataset)
    subjects = _opened(model, base, dataset, opening)
    batch = held_out(dataset, n, opening.place)
    spread = spreading.start()
    method = subjects[-1].defence.partition("(")[0]
    repaired = f" (repaired with {method})" if method != "none" else ""
    title = f"{Path(model).name}{repaired} evaluated on {Path(data).name}"
    run = keeping.begin("evaluate", title, model=model, base=base or "the model's own")
    results.measure(
        subjects,
        batch,
        plan,
        dataset,
        run,
        spread,
        seed=keeping.seed,
        batch_size=fitting(batch_size, dataset.in_shape),
        as_json=keeping.as_json,
        keep_images=kept,
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


def _opened(model: str, base: str | None, dataset: Dataset, opening: Opening) -> list[Subject]:
    classifier = opening.model(model, dataset)
    before = undefended_of(classifier)
    if base is not None:
        before = open_model(base, dataset, device=opening.place)
    return _subjects(model, classifier, base, before)


def _subjects(
    model: str, classifier: nn.Module, base: str | None, before: nn.Module | None
) -> list[Subject]:
    """Before and after, every variant by itself; a model that nothing was done to is alone."""
    subjects = [Subject(Role.UNDEFENDED, before or classifier, base or model)]
    if before is not None:
        defence = _defence(model, classifier)
        variants: dict[str, Any] = {**described(classifier).variants()} or {"": classifier}
        subjects += [
            Subject(Role.DEFENDED, m, model, defence, name) for name, m in variants.items()
        ]
    return subjects


def _defence(reference: str, model: nn.Module) -> str:
    if (Path(reference) / "run.json").is_file():
        return str(Run.open(Path(reference)).info["parts"].get("repair", type(model).__name__))
    return type(model).__name__
