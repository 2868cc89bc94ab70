"""``suture audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suture.cli import results
from suture.cli.choices import (
    make_attack,
    radius,
    reachable,
)
from suture.cli.common import (
    Data,
    FittingBatch,
    KeptImages,
    Size,
    fitting,
    held_out,
    keep_images,
    open_data,
)
from suture.cli.opening import (
    Model,
)
from suture.cli.options import Keeping, Opening, Spreading, grouped
from suture.evaluate import Plan, Role, Subject, tier_of

IMAGES = {"quick": 100, "standard": 500, "deep": 2_000}
_CURVES = {"quick": (0.5, 1.0, 2.0)}


@grouped
def command(
    model: Model,
    data: Data,
    size: Size = None,
    tier: Annotated[str, typer.Option(help="quick, standard or deep.")] = "quick",
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    eps: Annotated[
        float,
        typer.Option(
            help="Radius, in pixel values of [0, 1]; 8/255 is understood.",
            parser=radius,
            metavar="RADIUS",
        ),
    ] = 8 / 255,
    n: Annotated[int | None, typer.Option("--n", help="Held-out images.", min=1)] = None,
    batch_size: FittingBatch = None,
    pictures: KeptImages = "some",
    *,
    opening: Opening,
    spreading: Spreading,
    keeping: Keeping,
) -> None:
    """Find out how fragile a classifier is: black-box, white-box, noise, accuracy against radius.

    Example: suture audit runs/cnn --data mnist --eps 0.1
    """
    chosen = tier_of(tier)
    dataset, kept = open_data(data, size), keep_images(pictures)
    classifier = opening.model(model, dataset)
    batch = held_out(dataset, n or IMAGES[tier], opening.place)
    attack = make_attack("square", norm=norm, eps=eps, queries=chosen.queries)
    reachable(attack.norm, attack.eps, dataset)
    plan = Plan(attack=attack, tier=chosen, radii=_CURVES.get(tier, Plan().radii))
    spread = spreading.start()
    title = f"{Path(model).name} audited on {Path(data).name}"
    run = keeping.begin("audit", title, model=model)
    results.measure(
        [Subject(Role.UNDEFENDED, classifier, model)],
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
