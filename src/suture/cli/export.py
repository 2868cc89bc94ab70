"""``suture export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from torch import nn

from suture import loading
from suture.certify.export import onnx_bytes
from suture.cli.choices import Model, Trust, Weights
from suture.cli.common import Force, Json, emit, open_data
from suture.errors import ArgumentError, StorageError
from suture.models.deploying import in_shape_of, part_of, pt2_bytes
from suture.storage import write_bytes


class Format(StrEnum):
    """What to write."""

    onnx = "onnx"
    pt2 = "pt2"


def command(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    to: Annotated[
        Format | None,
        typer.Option("--to", help="onnx, or pt2 (torch.export); default: by the file's suffix."),
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="A part alone, such as A5's robustifier.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Data set whose images it takes, if not known.")
    ] = None,
    force: Force = False,
    weights: Weights = None,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Write a model, or a part of it, as one file for deployment; the batch size stays free.

    Example: suture export runs/a5 --to onnx --part robustifier --out robustifier.onnx
    """
    to = to or _by_suffix(out)
    if out.exists() and not force:
        raise StorageError(
            expected=f"no file at {out}", got="one", remedy="Choose another --out, or --force."
        )
    given = {} if data is None else {"in_shape": open_data(data).in_shape}
    whole = loading.load(model, weights=weights, trust_code=trust_code, **_options(model, given))
    shape = given.get("in_shape") or in_shape_of(getattr(whole, "suture_spec", None))
    if shape is None:
        raise ArgumentError(
            expected="--data, as the model does not tell the shape of its images",
            got="none",
            remedy="Name the data set that the model was made for.",
        )
    chosen: nn.Module = part_of(whole, part).cpu().eval()
    if to is Format.onnx:
        content = onnx_bytes(chosen, shape, "logits" if part is None else part)
    else:
        content = pt2_bytes(chosen, shape)
    write_bytes(out, content)
    facts = {"file": str(out), "bytes": len(content), "in_shape": list(shape), "part": part}
    emit(as_json, facts, f"{out}: {len(content) / 1024:.0f} KiB, images {shape}")


def _by_suffix(out: Path) -> Format:
    suffix = out.suffix.removeprefix(".")
    if suffix not in list(Format):
        raise ArgumentError(
            expected="a file that ends with .onnx or .pt2, or --to",
            got=str(out),
            remedy="Name the format: --to onnx.",
        )
    return Format(suffix)


def _options(model: str, given: dict[str, tuple[int, int, int]]) -> dict[str, object]:
    return dict(given) if model.endswith(".onnx") else {}
