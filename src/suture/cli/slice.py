"""``suture slice``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from suture.cli.common import (
    Bars,
    BatchSize,
    Data,
    Json,
    Seed,
    Size,
    emit,
    held_out,
    open_data,
    timed,
)
from suture.cli.opening import (
    Model,
)
from suture.cli.options import Opening, grouped
from suture.data import Dataset
from suture.data.splits import permutation
from suture.errors import ArgumentError
from suture.repairs.dare import Slices, ablation, slice_classes, watch
from suture.repairs.dare.graph import Layer
from suture.report.slices import LayerSlice, slice_drawing
from suture.rng import Stream
from suture.storage import write_text

_TESTED = 2000
"""Test images of an ablation, at most."""
_CHOSEN = {
    "none": "with all of them",
    "key": "largest summed contribution",
    "touched": "most key synapses (the paper's)",
    "random": "at random, mean of five",
    "weights": "largest weights",
    "change": "largest change of the class's mean",
}


@grouped
def command(
    model: Model,
    data: Data,
    label: Annotated[
        str, typer.Option("--class", help="A class' number or name, whose slice is shown.")
    ],
    size: Size = None,
    q: Annotated[float, typer.Option("--q", help="Percent of synapses that are key.")] = 95.0,
    n: Annotated[int, typer.Option("--n", help="Training images whose means count.", min=1)] = 5000,
    batch_size: BatchSize = 256,
    ablate: Annotated[
        int | None,
        typer.Option(help="Switch off so many neurons before the last layer: what is left?", min=1),
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw it: an .svg file to write.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
    *,
    opening: Opening,
) -> None:
    """Which neurons and synapses decide a class, layer by layer (DARE's slicer).

    Example: suture slice runs/cnn --data mnist --class 3 --picture slice.svg
    """
    dataset = open_data(data, size)
    index = _class(label, dataset)
    classifier = opening.model(model, dataset)
    order = permutation(len(dataset.train), Stream(seed).child("slice"))
    batch = dataset.train.select(order[:n]).resident(opening.place)
    with timed() as clock, Bars() as bars, torch.no_grad():
        slices = slice_classes(
            classifier,
            batch,
            q=q,
            batch_size=batch_size,
            on_done=lambda done, total: bars("images", done, total),
        )
        rows = layer_slices(slices, index)
        left = _left(slices, dataset, index, ablate, seed, opening.place)
    if picture is not None:
        title = f"Slice of class {dataset.class_names[index]}: {Path(model).name}"
        drawing = slice_drawing(title, rows)
        write_text(picture, drawing.file)
    facts: dict[str, Any] = {
        "model": model,
        "data": dataset.source,
        "class": index,
        "class_name": dataset.class_names[index],
        "q": q,
        "n": len(batch),
        "layers": [vars(row) for row in rows],
        "ablation": left,
        "picture": str(picture) if picture else None,
        "seed": seed,
        "seconds": clock["seconds"],
    }
    emit(as_json, facts, _text(facts, rows))


def _left(
    slices: Slices, dataset: Dataset, label: int, count: int | None, seed: int, device: str
) -> list[dict[str, Any]]:
    """Accuracy on test images without neurons of the layer before the last, one row a choice."""
    if count is None:
        return []
    batch = held_out(dataset, _TESTED, device)
    stream = Stream(seed).child("ablation")
    found = ablation(slices, watch(slices.graph, 1), batch, label, count, stream=stream)
    return [vars(row) | {"neurons": count, "n": len(batch)} for row in found]


def layer_slices(slices: Slices, label: int) -> list[LayerSlice]:
    """Every layer's counts for a class."""
    neurons = slices.key_neurons(label)
    return [_counts(slices, layer, label, neurons[layer.name]) for layer in slices.graph.layers]


def _counts(slices: Slices, layer: Layer, label: int, touched: torch.Tensor) -> LayerSlice:
    contrib, key = slices.contrib(layer, label), slices.key(layer, label)
    return LayerSlice(
        name=layer.name,
        neurons=len(touched),
        key_neurons=int(touched.sum()),
        synapses=key.numel(),
        key_synapses=int(key.sum()),
        positive=int((contrib > 0).sum()),
        negative=int((contrib < 0).sum()),
    )


def _told(rows: list[dict[str, Any]]) -> list[str]:
    """The ablation in words: whose accuracy is left."""
    if not rows:
        return []
    count, n = rows[0]["neurons"], rows[0]["n"]
    head = f"without {count} neurons before the last layer, {n} test images:"
    return [
        head,
        *(
            f"  {_CHOSEN[row['way']]:42}  this class {100 * row['own']:5.1f} %, "
            f"others {100 * row['others']:5.1f} %"
            for row in rows
        ),
    ]


def _class(label: str, dataset: Dataset) -> int:
    if label in dataset.class_names:
        return dataset.class_names.index(label)
    if label.isdigit() and int(label) < dataset.classes:
        return int(label)
    raise ArgumentError(
        expected=f"a class from 0 to {dataset.classes - 1}, or one of "
        f"{', '.join(dataset.class_names[:20])}",
        got=repr(label),
        remedy="For example --class 3.",
    )


def _text(facts: dict[str, Any], rows: list[LayerSlice]) -> str:
    header = ("layer", "key neurons", "key synapses", "for the class", "against")
    body = [
        (
            row.name,
            f"{row.key_neurons} of {row.neurons}",
            f"{row.key_synapses} of {row.synapses}",
            f"{100 * row.positive / row.synapses:.1f} %",
            f"{100 * row.negative / row.synapses:.1f} %",
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in (header, *body)) for i in range(len(header))]
    lines = [
        "  ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)).rstrip()
        for line in (header, *body)
    ]
    head = f"class {facts['class_name']}, q = {facts['q']:g} %, {facts['n']} training images"
    lines += _told(facts["ablation"])
    lines += [f"picture: {facts['picture']}"] if facts["picture"] else []
    return "\n".join([head, *lines, f"{facts['seconds']:.1f} s"])
