"""A model, or a part of it, as a ``torch.export`` program for other programs to run."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from suture.errors import ArgumentError, ModelError
from suture.models.messages import first_line


def pt2_bytes(model: nn.Module, in_shape: tuple[int, ...]) -> bytes:
    """The model as a ``.pt2`` file with a free batch axis.

    Raises:
        ModelError: its forward cannot be traced.
    """
    example, buffer = torch.zeros(2, *in_shape), io.BytesIO()
    try:
        with _quietly():
            program = torch.export.export(
                model.eval(), (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)
            )
    except Exception as error:
        raise ModelError(
            expected="a model that torch.export can trace",
            got=_reason(error),
            remedy="Write forward without Python branches on tensor values and for any number of "
            "images, or keep the code: module:factory with trust_code=True.",
        ) from error
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _reason(error: Exception) -> str:
    """Why an export failed, in words where torch has none for users."""
    kind = type(error).__name__
    if kind.startswith("GuardOnDataDependent"):
        return "a forward that branches on a tensor's value"
    if kind in ("ConstraintViolationError", "UserError") and "batch" in str(error):
        return "a forward that works for one number of images only"
    return f"{kind}: {first_line(error)}"


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch.export writes on the way: its errors say the same."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


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
