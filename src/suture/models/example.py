"""Example images for a model: of the shape it carries, or of a likely one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from suture.errors import ModelError
from suture.models.checks import untouched
from suture.models.spec import carried_shape
from suture.rng import Stream

_COUNT = 3
_SIDES = (32, 28, 224, 8, 64, 96, 128, 299)


def example_images(model: nn.Module, in_shape: Sequence[int] | None = None) -> tuple[Tensor, bool]:
    """Three random images that the model takes, and whether their shape is certain.

    Raises:
        ModelError: if no shape is known and no likely one fits.
    """
    known = in_shape or carried_shape(model)
    if known:
        return _images(model, tuple(known)), True
    for shape in _likely(model):
        images = _images(model, shape)
        if _fits(model, images):
            return images, False
    raise ModelError(
        expected="a model whose image shape is known",
        got=f"a {type(model).__name__} that carries none",
        remedy="Pass in_shape=(c, h, w).",
    )


def _likely(model: nn.Module) -> Iterator[tuple[int, int, int]]:
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)), None)
    channels = [first.in_channels] if isinstance(first, nn.Conv2d) else [1, 3]
    yield from ((c, side, side) for side in _SIDES for c in channels)


def _images(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    images = torch.rand(_COUNT, *shape, generator=Stream(0).child("example").generator())
    parameter = next(model.parameters(), None)
    return images if parameter is None else images.to(parameter.device)


def _fits(model: nn.Module, images: Tensor) -> bool:
    try:
        with untouched(model), torch.no_grad():
            out = model(images[:1])
    except (RuntimeError, ValueError, AssertionError, IndexError):
        return False
    return isinstance(out, Tensor) and out.ndim == 2
