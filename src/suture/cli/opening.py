"""A model by reference, with its weights and its normalisation: options, and what opens it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from suture import models
from suture.cli.engines import note
from suture.data import Dataset
from suture.engine.threads import use_fitting_threads
from suture.errors import ArgumentError
from suture.loading import load
from suture.rng import Stream
from suture.settings import number

Model = Annotated[
    str,
    typer.Argument(
        help="A run or bundle folder, an .onnx or .pt2 file, an architecture's name, timm:NAME, "
        "torchvision:NAME, or module:factory."
    ),
]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="Weights: .safetensors or a plain state dict.")
]


def _statistics(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(number(part) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        raise ArgumentError(
            expected=f"numbers with commas for --{name}, one a channel",
            got=repr(text),
            remedy="For example --mean 0.485,0.456,0.406.",
        ) from None


Mean = Annotated[
    str | None,
    typer.Option(
        "--mean",
        help="What the network wants subtracted from pixels in [0, 1], one number a channel, where "
        "that is not a part of it.",
        metavar="A,B,C",
    ),
]
Std = Annotated[
    str | None,
    typer.Option("--std", help="What it wants them divided by then.", metavar="A,B,C"),
]
Range = Annotated[
    str | None,
    typer.Option(
        "--range",
        help="To what it wants pixels scaled before that: 0-255, -1..1; mean and std are in these "
        "units then.",
        metavar="LOW-HIGH",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset", help=f"A usual mean and std in place of these: {', '.join(models.PRESETS)}."
    ),
]
Trust = Annotated[
    bool, typer.Option("--trust-code", help="Allow module:factory to import and run its code.")
]


def open_model(
    reference: str,
    dataset: Dataset,
    *,
    weights: Path | None = None,
    trust_code: bool = False,
    device: str = "cpu",
    **given: str | None,
) -> nn.Module:
    """The classifier, checked on images of the data set; ``given`` is said of its normalisation."""
    model = load(
        reference,
        weights=weights,
        trust_code=trust_code,
        device=device,
        **_open_options(reference, dataset),
        **opening_statistics(**given),
    )
    some = dataset.test if len(dataset.test) else dataset.train
    batch = some.batch(_looked_at(dataset), shuffle_stream=Stream(0).child("a look")).to(device)
    models.check_classifier(model, batch)
    use_fitting_threads(model, dataset.in_shape)
    if not any(given.values()):
        with models.untouched(model):
            if said := models.suspicion(model, batch):
                note(f"{said}.")
    return model


def _looked_at(dataset: Dataset) -> int:
    """Images that a look at a model takes: fewer of large ones."""
    return max(16, min(100, 2**20 // math.prod(dataset.in_shape)))


def opening_statistics(
    mean: str | None = None,
    std: str | None = None,
    pixels: str | None = None,
    preset: str | None = None,
) -> dict[str, Any]:
    """The options about normalisation as ``load`` takes them."""
    numbers = {k: _statistics(k, v) for k, v in (("mean", mean), ("std", std)) if v}
    words = {k: v for k, v in (("range", pixels), ("preset", preset)) if v}
    return numbers | words


def _open_options(reference: str, dataset: Dataset) -> dict[str, Any]:
    """What the data set tells about a model that its reference leaves open."""
    if reference in models.architectures() or reference.startswith(("timm:", "torchvision:")):
        return {"in_shape": dataset.in_shape, "classes": dataset.classes}
    return {"in_shape": dataset.in_shape} if reference.endswith(".onnx") else {}
