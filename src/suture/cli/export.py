"""``suture export``."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from torch import nn

from suture import models
from suture.certify.export import onnx_bytes
from suture.cli.common import Force, Json, Size, emit, open_data
from suture.cli.opening import (
    Model,
)
from suture.cli.options import Opening, grouped
from suture.errors import ArgumentError, StorageError
from suture.models.deploying import in_shape_of, part_of, pt2_bytes
from suture.models.spec import without_spec
from suture.storage import write_bytes


class Format(StrEnum):
    """What to write."""

    onnx = "onnx"
    pt2 = "pt2"
    bundle = "bundle"


@grouped
def command(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    to: Annotated[
        Format | None,
        typer.Option(
            "--to",
            help="onnx, pt2 (torch.export), or bundle (a folder that --trust-code is not needed "
            "for); default: by the file's suffix.",
        ),
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="A part alone, such as A5's robustifier.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Data set whose images it takes, if not known.")
    ] = None,
    size: Size = None,
    force: Force = False,
    as_json: Json = False,
    *,
    opening: Opening,
) -> None:
    """Write a model, or a part of it, as one file for deployment; the batch size stays free.

    Example: suture export runs/a5 --to onnx --part robustifier --out robustifier.onnx
    """
    to = to or _by_suffix(out)
    if out.exists() and not force:
        raise StorageError(
            expected=f"no file at {out}", got="one", remedy="Choose another --out, or --force."
        )
    shape: tuple[int, ...] | None = None if data is None else open_data(data, size).in_shape
    whole = opening.plain(model, shape)
    shape = shape or in_shape_of(getattr(whole, "suture_spec", None))
    if shape is None:
        raise ArgumentError(
            expected="--data, as the model does not tell the shape of its images",
            got="none",
            remedy="Name the data set that the model was made for.",
        )
    chosen: nn.Module = part_of(whole, part).cpu().eval()
    written = _write(chosen, to, out, shape, part)
    facts = {"file": str(out), "bytes": written, "in_shape": list(shape), "part": part}
    emit(as_json, facts, f"{out}: {written / 1024:.0f} KiB, images {shape}")


def _write(
    model: nn.Module, to: Format, out: Path, shape: tuple[int, ...], part: str | None
) -> int:
    """The file or folder; how many bytes it has."""
    if to is Format.bundle:
        whole = models.save(_savable(model, shape), out)
        return sum(path.stat().st_size for path in whole.iterdir())
    content = onnx_bytes(model, shape, part or "logits") if to is Format.onnx else None
    content = content or pt2_bytes(model, shape)
    write_bytes(out, content)
    return len(content)


def _savable(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """The model; one whose code a bundle would have to trust is exported into it instead."""
    spec = getattr(model, "suture_spec", None)
    if spec is not None and '"factory"' not in json.dumps(spec):
        return model
    return models.wrap(without_spec(model), in_shape=shape)


def _by_suffix(out: Path) -> Format:
    suffix = out.suffix.removeprefix(".")
    if suffix not in list(Format):
        raise ArgumentError(
            expected="a file that ends with .onnx or .pt2, or --to",
            got=str(out),
            remedy="Name the format: --to onnx, --to pt2, or --to bundle for a folder.",
        )
    return Format(suffix)
