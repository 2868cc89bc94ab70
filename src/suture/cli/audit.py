"""``suture audit``."""

from __future__ import annotations

from typing import Annotated

import typer

from suture import report
from suture.attacks import Square
from suture.cli import results
from suture.cli.choices import Eps, Model, Norm, Trust, Weights, open_model
from suture.cli.common import (
    Bars,
    Data,
    Device,
    Force,
    Json,
    Out,
    Seed,
    check_device,
    command_line,
    default_out,
    emit,
    held_out,
    open_data,
    say,
    timed,
)
from suture.engine import Run
from suture.errors import ArgumentError
from suture.evaluate import Plan, Subject
from suture.models import looks_like_softmax
from suture.pipeline import assess

TIERS = {"quick": (100, 500, 20), "standard": (500, 2000, 40), "full": (2000, 5000, 100)}
"""Images, queries per image, gradient steps."""


def command(
    model: Model,
    data: Data,
    tier: Annotated[str, typer.Option(help="quick, standard or full.")] = "quick",
    norm: Norm = "linf",
    eps: Eps = 8 / 255,
    n: Annotated[int | None, typer.Option("--n", help="Held-out images.", min=1)] = None,
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
    images, queries, steps = TIERS[tier]
    dataset = open_data(data)
    device = check_device(device)
    classifier = open_model(model, dataset, weights=weights, trust_code=trust_code, device=device)
    batch = held_out(dataset, n or images, device)
    if looks_like_softmax(classifier, batch.images[:64]):
        say(
            "warning: the outputs look like probabilities. Gradients vanish behind a softmax: "
            "give the model without it, or read white-box figures with care."
        )
    attack = Square(norm=norm, eps=eps, queries=queries)  # type: ignore[arg-type]
    plan = Plan(attack=attack, pgd_steps=steps)
    run = Run.create(
        default_out("audit", out),
        kind="audit",
        title=f"{model} audited on {data}",
        command=command_line(),
        seed=seed,
        replace=force,
        parts={"model": model},
    )
    with run, timed() as clock, Bars() as bars:
        subject = Subject("undefended", classifier, model)
        records = assess([subject], batch, plan, dataset, run, seed=seed, on_progress=bars)
    run.finish()
    page = report.write(run.folder)
    facts = results.answer(records, run.folder, page, clock["seconds"])
    emit(as_json, facts, "" if as_json else results.text(records, facts))
