"""``suture.load``: any model reference, including what repairs have saved."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from suture import models


def load(reference: str | Path | nn.Module, **options: Any) -> nn.Module:
    """A classifier from a name, a file, a bundle, or a run folder that holds one.

    Args:
        reference: a zoo name, ``timm:NAME``, ``torchvision:NAME``, an ``.onnx`` or ``.pt2`` file,
            a bundle, a run folder, or ``module:factory`` with ``trust_code=True``. A module of
            your own is wrapped (``suture.wrap``); one of suture's is itself.
        options: passed to ``suture.models.load`` (or ``wrap``).

    Raises:
        ModelError, BundleError: what is there cannot be read or trusted.
    """
    if isinstance(reference, nn.Module):
        return models.wrap(reference, **options)
    found = inside_run(reference)
    if Path(found).is_dir():
        import_module("suture.repairs")  # registers the builders of what repairs save
    return models.load(str(found), **options)


def inside_run(reference: str | Path) -> str | Path:
    """A run folder stands for the model among its artifacts; anything else for itself."""
    folder = Path(reference)
    return folder / "artifacts" / "model" if (folder / "run.json").is_file() else reference
