"""What all commands share: options, progress on stderr, errors, output as text or JSON."""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import torch
import typer
from rich.console import Console

from suture.cli.bars import Bars as Bars
from suture.cli.bars import stderr
from suture.data import Dataset
from suture.data import load as load_data
from suture.data.splits import permutation
from suture.errors import ArgumentError, DataError
from suture.pipeline import KeepImages
from suture.rng import Stream
from suture.types import LabelledImages

stdout = Console()

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout; progress goes to stderr.")
]
Seed = Annotated[int, typer.Option("--seed", help="Root of all randomness.", min=0)]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, …")]
Data = Annotated[
    str, typer.Option("--data", help="A data set's name, an .npz file, or a folder of images.")
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        help="Resize a folder's pictures: 32, or 32x48 (height x width).",
        metavar="PIXELS",
    ),
]
Number = Annotated[int, typer.Option("--n", help="How many held-out images.", min=1)]
BatchSize = Annotated[
    int, typer.Option("--batch-size", help="Images attacked at a time: memory, not results.", min=1)
]
FittingBatch = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        help="Images attacked at a time: memory, not results; default: as many as a million "
        "values, 64 to 1024.",
        min=1,
    ),
]


def fitting(batch_size: int | None, shape: tuple[int, ...]) -> int:
    """The batch size asked for, or one that keeps small images from being many small batches."""
    return batch_size or max(64, min(1024, 2**20 // math.prod(shape)))


KeptImages = Annotated[
    str,
    typer.Option(
        "--keep-images",
        help="none; some: the eight that the page shows; all: besides every image as the "
        "strongest attack left it, as data sets.",
    ),
]


def keep_images(text: str) -> KeepImages:
    """What stays of the attacked images."""
    if text not in get_args(KeepImages):
        raise ArgumentError(
            expected=f"--keep-images out of {', '.join(get_args(KeepImages))}",
            got=repr(text),
            remedy="Leave it out for the few that the page shows.",
        )
    return cast(KeepImages, text)


Out = Annotated[
    Path | None, typer.Option("--out", help="Run folder to write; default runs/COMMAND-TIME.")
]

Force = Annotated[
    bool, typer.Option("--force", help="Replace an earlier run of this kind in --out.")
]


def say(text: str) -> None:
    """A line for a person, on stderr."""
    stderr.print(text, highlight=False, markup=False, soft_wrap=True)


def emit(as_json: bool, data: dict[str, Any], text: str) -> None:
    """The command's result: one JSON object, or text, on stdout."""
    if as_json:
        print(json.dumps(data, ensure_ascii=False, allow_nan=False))
    else:
        stdout.print(text, highlight=False, markup=False, soft_wrap=True)


def command_line() -> str:
    """The command as it was typed, for the record."""
    return shlex.join(["suture", *sys.argv[1:]])


def default_out(command: str, out: Path | None) -> Path:
    """The run folder: as given, or one named after the command and the time."""
    if out is not None:
        return out
    return Path("runs") / f"{command}-{time.strftime('%Y%m%d-%H%M%S')}"


def check_device(device: str) -> str:
    """The device, if torch can use it here."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ArgumentError(
            expected=f"a device that torch can use here: {', '.join(_devices())}",
            got=repr(device),
            remedy=_about_device(device),
        ) from error
    return device


def _devices() -> list[str]:
    cards = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["cpu", *(["cuda"] if cards else []), *cards[1:]]


def _about_device(device: str) -> str:
    if not torch.cuda.is_available():
        return "Leave --device out: torch sees no accelerator (`suture doctor` says why)."
    return "A GPU is called cuda, the second one cuda:1."


def open_data(name: str, size: str | None = None) -> Dataset:
    """The data set; a folder's pictures resized where that is asked for."""
    return load_data(name, size=None if size is None else _size(size))


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().replace("×", "x").split("x")
    if not 1 <= len(parts) <= 2 or not all(part.strip().isdecimal() for part in parts):
        raise ArgumentError(
            expected="--size as a number of pixels, or height x width",
            got=repr(text),
            remedy="For example --size 32, or --size 32x48.",
        )
    return int(parts[0]), int(parts[-1])


def held_out(dataset: Dataset, n: int, device: str) -> LabelledImages:
    """The first ``n`` test images (all of them if there are fewer).

    Where the set is sorted by class they are drawn at random instead, the same ones every time.
    """
    if len(dataset.test) == 0:
        raise DataError(
            expected=f"test images in {dataset.name}",
            got="an empty test split",
            remedy="Give a data set with a test split (x_test and y_test in an .npz, test/ in a "
            "folder), or enough images to hold some out.",
        )
    labels = dataset.test.labels
    by_class = len(labels) > 1 and bool((labels[1:] >= labels[:-1]).all())
    order = torch.arange(len(labels))
    if by_class:
        order = permutation(len(labels), Stream(0).child("held out"))
    return dataset.test.select(order[:n]).resident(device)


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """A dict that holds the seconds since, once the block is left."""
    clock: dict[str, float] = {}
    started = time.monotonic()
    try:
        yield clock
    finally:
        clock["seconds"] = round(time.monotonic() - started, 3)
