"""``suture attack``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from torch import Tensor

from suture.attacks import ATTACKS, AttackResult
from suture.attacks.spread import spread
from suture.cli.choices import (
    Eps,
    Norm,
    Queries,
    Steps,
    make_attack,
    reachable,
)
from suture.cli.common import (
    Bars,
    BatchSize,
    Data,
    Json,
    Number,
    Seed,
    Size,
    emit,
    held_out,
    open_data,
    timed,
)
from suture.cli.fields import Settings, fields_of_chosen
from suture.cli.opening import (
    Model,
)
from suture.cli.options import Opening, Spreading, grouped
from suture.evaluate.metrics import clopper_pearson
from suture.settings import assignments
from suture.storage import atomic_file

Command = fields_of_chosen("--attack", ATTACKS, "square")


@grouped
def command(
    model: Model,
    data: Data,
    size: Size = None,
    attack: Annotated[
        str, typer.Option(help=f"{', '.join(ATTACKS)}. With --help: its fields.")
    ] = "square",
    norm: Norm = None,
    eps: Eps = None,
    queries: Queries = None,
    steps: Steps = None,
    eot: Annotated[int, typer.Option(help="Draws averaged per query.", min=1)] = 1,
    settings: Settings = None,
    n: Number = 500,
    batch_size: BatchSize = 256,
    save: Annotated[
        Path | None, typer.Option(help="Keep the images: .npz with images, labels, success.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    *,
    opening: Opening,
    spreading: Spreading,
) -> None:
    """Attack a classifier on held-out images and count what holds.

    Example: suture attack runs/cnn --data mnist --attack square --eps 0.15 --queries 1000
    """
    dataset = open_data(data, size)
    flags = {"norm": norm, "eps": eps, "queries": queries, "steps": steps}
    method = make_attack(attack, {"eot": str(eot)} | assignments(settings or []), **flags)
    reachable(method.norm, method.eps, dataset)
    classifier = opening.model(model, dataset)
    batch = held_out(dataset, n, opening.place)
    with spreading.start() as mapper, timed() as clock, Bars() as bars:
        result = spread(
            method,
            classifier,
            batch,
            engine=mapper,
            generator=seed,
            batch_size=batch_size,
            on_progress=lambda done, total: bars(repr(method), done, total),
        )
    if save is not None:
        _save(save, result, batch.labels)
    facts = _facts(result, batch.labels) | {
        "model": model,
        "data": dataset.source,
        "attack": repr(method),
        "seed": seed,
        "seconds": clock["seconds"],
        "saved": str(save) if save else None,
    }
    emit(as_json, facts, _text(facts))


def _save(save: Path, result: AttackResult, labels: Tensor) -> None:
    with atomic_file(save) as path, path.open("wb") as file:
        np.savez_compressed(
            file,
            images=result.images.cpu().numpy(),
            labels=labels.cpu().numpy(),
            success=result.success.cpu().numpy(),
        )


def _facts(result: AttackResult, labels: Tensor) -> dict[str, Any]:
    right, robust, count = int(result.clean_right.sum()), int(result.robust.sum()), len(labels)
    return {
        "n": count,
        "clean_accuracy": 100.0 * right / count,
        "robust_accuracy": 100.0 * robust / count,
        "interval": [100.0 * v for v in clopper_pearson(robust, count)],
        "robust": robust,
        "median_queries": _median(result.queries[result.clean_right & result.success]),
        "notes": list(result.notes),
    }


def _median(queries: Any) -> float | None:
    return float(queries.float().median()) if len(queries) else None


def _text(facts: dict[str, Any]) -> str:
    low, high = facts["interval"]
    lines = [
        facts["attack"],
        f"clean accuracy   {facts['clean_accuracy']:.1f} %",
        f"robust accuracy  {facts['robust_accuracy']:.1f} % "
        f"({facts['robust']}/{facts['n']}, 95 % {low:.1f}–{high:.1f})",
    ]
    if facts["median_queries"] is not None:
        lines.append(f"median queries of successes  {facts['median_queries']:.0f}")
    lines += facts["notes"]
    if facts["saved"]:
        lines.append(f"images: {facts['saved']}")
    return "\n".join([*lines, f"{facts['seconds']:.1f} s"])
