"""A model, or a part of it, as a ``torch.export`` program for other programs to run."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from suture.errors import ArgumentError, ModelError


def pt2_bytes(model: nn.Module, in_shape: tuple[int, ...]) -> bytes:
    """The model as a ``.pt2`` file with a free batch axis.

    Raises:
        ModelError: its forward cannot be traced.
    """
    example, buffer = torch.zeros(2, *in_shape), io.BytesIO()
    try:
        program = torch.export.export(
            model.eval(), (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
    except Exception as error:
        raise ModelError(
            expected="a model that torch.export can trace",
            got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            remedy="Write forward without Python branches on tensor values.",
        ) from error
    torch.export.save(program, buffer)
    return buffer.getvalue()


def part_of(model: nn.Module, name: str | None) -> nn.Module:
    """A named part of a model, such as A5's ``robustifier``; the whole without a name.

    Raises:
        ArgumentError: there is no such part.
    """
    if not name:
        return model
    parts = dict(model.named_children())
    if name not in parts:
        raise ArgumentError(
            expected=f"a part out of {', '.join(parts) or 'none'}",
            got=repr(name),
            remedy="Leave --part out for the whole model; A5's models have robustifier and "
            "classifier.",
        )
    return parts[name]


def in_shape_of(spec: Mapping[str, Any] | None) -> tuple[int, ...] | None:
    """``(c, h, w)`` as a spec, or one nested in it, tells it."""
    if not isinstance(spec, Mapping):
        return None
    shape = spec.get("in_shape")
    if isinstance(shape, list | tuple):
        return tuple(int(side) for side in shape)
    return next((s for v in spec.values() if (s := in_shape_of(v)) is not None), None)
