"""``suture history``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from suture import loading
from suture.cli.common import (
    Bars,
    BatchSize,
    Data,
    Device,
    Json,
    check_device,
    emit,
    open_data,
    timed,
)
from suture.data import Split
from suture.errors import ArgumentError
from suture.repairs.dare import effective, epochs_told, from_history
from suture.report.history import history_drawing, history_table
from suture.storage import write_text
from suture.types import LabelledImages


def command(
    run: Annotated[Path, typer.Argument(help="A run of `suture train` that kept its history.")],
    data: Data,
    n: Annotated[int, typer.Option("--n", help="Images asked about.", min=1)] = 1000,
    split: Annotated[
        str, typer.Option(help="validation (not trained on), test or train.")
    ] = "validation",
    picture: Annotated[Path | None, typer.Option(help="Draw it: an .svg file to write.")] = None,
    batch_size: BatchSize = 256,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """What every remembered epoch of a training knows: accuracy, and where the last one is wrong.

    Example: suture history runs/cnn --data mnist --picture history.svg
    """
    place, dataset = check_device(device), open_data(data)
    batch = _images(dataset.splits, split, n).to(place)
    with timed() as clock, Bars():
        memory, model = from_history(str(run), 1.0), loading.load(str(run), device=place)
        told = epochs_told(model, memory, batch, batch_size)
    rows = [{**vars(row), "n": len(batch)} for row in told]
    facts: dict[str, Any] = {
        "run": str(run),
        "data": dataset.source,
        "split": split,
        "n": len(batch),
        "epochs": rows,
        "effective_tutors": round(effective(torch.tensor([row.tutors for row in told])), 2),
        "picture": str(picture) if picture else None,
        "seconds": clock["seconds"],
    }
    if picture is not None:
        drawing = history_drawing(f"History of {run.name}", rows)
        write_text(picture, drawing.file)
    emit(as_json, facts, _text(facts))


def _images(splits: dict[str, Split], name: str, n: int) -> LabelledImages:
    if name not in splits or not len(splits[name]):
        there = [known for known, part in splits.items() if len(part)]
        raise ArgumentError(
            expected=f"a split with images, out of {', '.join(there)}",
            got=repr(name),
            remedy=f"For example --split {there[-1]}.",
        )
    part = splits[name]
    return part.select(torch.arange(min(n, len(part)))).resident()


def _text(facts: dict[str, Any]) -> str:
    lines = [history_table(facts["epochs"]).terminal()]
    lines.append(
        f"{facts['n']} {facts['split']} images; those taught are spread over the epochs as over "
        f"{facts['effective_tutors']:.1f} equally frequent ones"
    )
    lines += [f"picture: {facts['picture']}"] if facts["picture"] else []
    return "\n".join([*lines, f"{facts['seconds']:.1f} s"])
