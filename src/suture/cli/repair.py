"""``suture repair``."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from suture.attacks import Attack
from suture.cli.choices import (
    Eps,
    Model,
    Norm,
    Queries,
    Steps,
    Trust,
    Weights,
    make_attack,
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
from suture.cli.repaired import repair_facts, repair_text
from suture.data import Dataset
from suture.pipeline import mend
from suture.repairs import DARE, A5Physical, Repair
from suture.repairs.dare.memory import opened
from suture.training import History
from suture.training.loop import fingerprint


def command(
    model: Model,
    data: Data,
    method: Annotated[
        str,
        typer.Option(
            help="defensyn, advrepair, weight-patch, dare, adversarial, pgd-training, trades, "
            "crown-ibp, a5-offline, a5-robustifier, a5-cotraining, a5-physical."
        ),
    ] = "defensyn",
    against: Annotated[str, typer.Option(help="The attack to withstand: square, pgd.")] = "square",
    norm: Norm = None,
    eps: Eps = None,
    queries: Queries = None,
    steps: Steps = None,
    samples: Annotated[int | None, typer.Option(help="Training images used.", min=1)] = None,
    k: Annotated[int | None, typer.Option("--k", help="Programs kept.", min=1)] = None,
    programs: Annotated[
        int | None, typer.Option(help="Programs drawn for each length.", min=1)
    ] = None,
    max_length: Annotated[int | None, typer.Option(help="Longest program.", min=1)] = None,
    lambda_: Annotated[
        float | None, typer.Option("--lambda", help="Weight of clean accuracy.", min=0)
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of the learned distributions; the paper's is 1.")
    ] = None,
    distribution: Annotated[
        str | None, typer.Option(help="Programs are drawn: learned, uniform, or random each time.")
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(help="Of counterexamples (programs), splits (patches).", min=0),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="Where to cut: a layer, or penultimate.")
    ] = None,
    guidance: Annotated[
        str | None, typer.Option(help="Patches by property, untargeted or targeted label.")
    ] = None,
    patch: Annotated[
        str | None, typer.Option(help="Patches: small, large, or constant for comparison.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Weights: last, first, best, sequence, or a number.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Weights, minimise: linf, l1, both or count.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(help="Weights: training images that stay right.", min=0)
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(help="DARE: the training's history; default: the one in MODEL's run."),
    ] = None,
    retrain: Annotated[
        int | None, typer.Option(help="DARE without a history: epochs to train on.", min=1)
    ] = None,
    q: Annotated[
        float | None, typer.Option("--q", help="DARE: percent of synapses that are key.")
    ] = None,
    eps_d: Annotated[
        float | None, typer.Option("--eps-d", help="A5: radius of the defence.", min=0)
    ] = None,
    body: Annotated[str | None, typer.Option(help="A5: robustifier mnist, cifar or small.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A5, physical objects: P, PC, PRC, or C alone.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Certified training: epochs; the paper's are 100.", min=1)
    ] = None,
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
    attack = make_attack(against, norm=norm, eps=eps, queries=queries, steps=steps)
    repair = make_repair(
        method,
        attack=attack,
        eps=eps,
        steps=steps,
        samples=samples,
        k=k,
        programs_per_length=programs,
        max_length=max_length,
        lambda_=lambda_,
        temperature=temperature,
        distribution=distribution,
        rounds=rounds,
        at=at,
        guidance=guidance,
        patch=patch,
        layer=layer,
        size=size,
        keep=keep,
        history=_history(method, model, history, retrain),
        retrain=retrain,
        q=q,
        eps_d=eps_d,
        body=body,
        recipe=recipe,
        epochs=epochs,
    )
    dataset = _looked_at(repair, dataset)
    classifier = open_model(model, dataset, weights=weights, trust_code=trust_code, device=device)
    spread = make_engine(engine, workers, address)
    run = begin(
        "repair",
        title=f"{Path(model).name} repaired with {type(repair).__name__}",
        out=out,
        seed=seed,
        force=force,
        parts={"model": model},
    )
    run.info["threat"] = _threat(repair, attack, against, queries, steps)
    with run, spread, timed() as clock, Bars() as bars:
        result = mend(
            classifier,
            dataset,
            repair,
            run,
            seed=seed,
            device=device,
            engine=spread,
            batch_size=batch_size,
            on_progress=bars,
        )
    run.finish()
    facts = repair_facts(result, str(run.folder), clock["seconds"], seed) | {"data": data}
    emit(as_json, facts, repair_text(facts))


def _threat(
    repair: Repair, attack: Attack, against: str, queries: int | None, steps: int | None
) -> dict[str, Any]:
    """What the repair was made against: `suture evaluate` attacks with it where nothing is said."""
    if hasattr(repair, "attack"):
        eps = "inf" if math.isinf(attack.eps) else attack.eps
        budgets = {"queries": queries, "steps": steps}
        return {"attack": against, "norm": attack.norm, "eps": eps} | budgets
    radius = getattr(repair, "eps", 0.0)
    return {"norm": "linf", "eps": radius} if radius else {}


def _history(method: str, model: str, given: Path | None, retrain: int | None) -> str | None:
    """The history that DARE looks into: as given, or the one that the model's run holds."""
    if given is not None or method != "dare" or retrain is not None:
        return None if given is None else str(given)
    found = Path(model) / "checkpoints"
    return str(found) if History.exists(found) else None


def _looked_at(repair: Repair, dataset: Dataset) -> Dataset:
    """DARE looks at the validation images; physical objects are all there are, none held out."""
    if isinstance(repair, A5Physical):
        objects = dataset.undivided()
        say(f"all {len(objects)} images are objects before the camera; pictures of them are judged")
        return dataclasses.replace(dataset, train=objects)
    if not isinstance(repair, DARE) or len(dataset.validation) == 0:
        return dataset
    say(f"DARE looks at the {len(dataset.validation)} validation images: training saw the others")
    if repair.history is not None and opened(repair.history).data != fingerprint(dataset):
        say("note: the history was trained on other images than this data set's training split")
    return dataclasses.replace(dataset, train=dataset.validation)
