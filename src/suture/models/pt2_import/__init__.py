"""Exported programs (``.pt2``) become plain modules, without unpickling or running file content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from suture.errors import ModelError
from suture.models.checks import check_weights
from suture.models.messages import first_line
from suture.models.normalising import paired
from suture.models.onnx_import.reading import read_bytes
from suture.models.pt2_import.archive import read_archive, refused
from suture.models.pt2_import.graph import to_module
from suture.models.spec import Spec, attach, register_builder, spec_file

__all__ = ["import_pt2"]


def import_pt2(
    path: str | Path,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Module:
    """The classifier in a file made by ``torch.export.save``, in eval mode.

    The program must have been exported in eval mode with a free batch axis, from float32 images
    ``(n, c, h, w)``. ``torch.export.load`` is not used, because it unpickles.

    Args:
        path: the file.
        mean: per channel or one for all, subtracted from pixels in [0, 1] before the program.
        std: divides after that.

    Raises:
        ModelError: if the file is damaged, holds pickled objects or other operators than ATen's,
            takes one batch size only, or its weights are not finite.
    """
    try:
        return from_bytes(read_bytes(Path(path)), mean, std)
    except ModelError as error:
        found = error.got if str(path) in error.got else f"{path}: {error.got}"
        raise ModelError(expected=error.expected, got=found, remedy=error.remedy) from error


def from_bytes(
    content: bytes, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> nn.Module:
    """The classifier in a ``.pt2`` file's content, as ``import_pt2`` gives it."""
    given = None if mean is None and std is None else paired(mean, std)
    module, shape = to_module(read_archive(content), given)
    check_weights(module)
    _check_batch(module, shape)
    name = f"pt2-{hashlib.sha256(content).hexdigest()[:16]}.pt2"
    spec: Spec = {"kind": "pt2", "file": name, "in_shape": shape}
    if given is not None:
        spec |= {"mean": list(given[0]), "std": list(given[1])}
    return attach(module, spec, {name: content}).eval()


def _check_batch(module: nn.Module, shape: list[int]) -> None:
    for count in (2, 3):
        try:
            with torch.no_grad():
                rows = len(module(torch.full((count, *shape), 0.5)))
        except (RuntimeError, ValueError, TypeError) as error:
            raise refused(
                f"one that fails on {count} images ({first_line(error)})",
                "a program with a free batch axis (dynamic_shapes=({0: Dim('batch')},))",
            ) from error
        if rows != count:
            raise refused(f"{rows} rows for {count} images", "one row of logits per image")


def _rebuild(spec: Spec, folder: Path | None) -> nn.Module:
    return from_bytes(spec_file(folder, spec["file"]), spec.get("mean"), spec.get("std"))


register_builder("pt2", _rebuild)
