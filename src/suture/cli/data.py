"""``suture data list`` and ``suture data show NAME``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from suture.cli.common import Json, Seed, Size, emit, open_data, say, stdout
from suture.data import catalogue, grid, save_png, summary
from suture.rng import Stream

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Data sets: what there is, and what is in one.",
)


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """List the data sets that have a name, and where each would come from.

    Example: suture data list
    """
    entries = catalogue()
    if as_json:
        emit(True, {"data": [dataclasses.asdict(entry) for entry in entries]}, "")
        return
    table = Table("name", "here", "train", "test", "shape", "classes", "source")
    for entry in entries:
        counts = (str(entry.train), str(entry.test), "×".join(map(str, entry.shape)))
        here = "yes" if entry.available else "no"
        table.add_row(entry.name, here, *counts, str(entry.classes), entry.source)
    stdout.print(table)
    for entry in entries:
        if entry.notes:
            say(f"{entry.name}: {entry.notes}")
    stdout.print("Any .npz with images and labels, and any folder of images, works too.")


@app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="A data set's name, an .npz file, or a folder.")],
    size: Size = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Where to save a grid of images, as PNG.")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Images in the grid.", min=1)] = 50,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Count, measure and picture a data set.

    Example: suture data show digits --picture digits.png
    """
    dataset = open_data(name, size)
    facts = summary(dataset)
    where = picture or Path(f"{Path(dataset.name).stem}.png")
    split = next(s for s in dataset.splits.values() if len(s))
    batch = split.batch(n, shuffle_stream=Stream(seed).child("show"))
    names = [dataset.class_names[label] for label in batch.labels.tolist()]
    save_png(grid(batch, captions=names), where)
    facts["picture"] = str(where)
    emit(as_json, facts, _text(facts))


def _text(facts: dict) -> str:
    lines = [f"{facts['name']}: {facts['classes']} classes, shape {facts['in_shape']}"]
    lines += [f"  source      {facts['source']}", f"  notes       {facts['notes'] or '—'}"]
    for name, split in facts["splits"].items():
        lines.append(f"  {name:11} {split['images']} images, per class {split['per_class']}")
    mean, std = ([round(v, 4) for v in facts[key]] for key in ("mean", "std"))
    return "\n".join([*lines, f"  mean, std   {mean}, {std}", f"  picture     {facts['picture']}"])
