"""ATen calls that are layers become layers again, so that bounds, cuts and repairs see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from suture.models.pt2_import.archive import refused

Given = Mapping[str, Any]
Stored = Callable[[Any], Tensor | None]


def _stored(given: Given, stored: Stored) -> tuple[Tensor, Tensor | None] | None:
    """Weight and bias, if they are the module's own."""
    weight, bias = stored(given["weight"]), stored(given.get("bias"))
    if weight is None or (bias is None and given.get("bias") is not None):
        return None
    return weight, bias


def _linear(given: Given, stored: Stored) -> nn.Module | None:
    parts = _stored(given, stored)
    if parts is None or parts[0].ndim != 2:
        return None
    out, features = parts[0].shape
    layer = nn.Linear(features, out, bias=parts[1] is not None, device="meta")
    return _filled(layer, *parts)


def _conv2d(given: Given, stored: Stored) -> nn.Module | None:
    parts = _stored(given, stored)
    options: dict[str, Any] = {
        k: given[k] for k in ("stride", "padding", "dilation", "groups") if k in given
    }
    if parts is None or isinstance(options.get("padding"), str):
        return None
    out, depth, height, width = parts[0].shape
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    depth *= options.get("groups", 1)
    layer = nn.Conv2d(
        depth, out, (height, width), bias=parts[1] is not None, device="meta", **options
    )
    return _filled(layer, *parts)


def _filled(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    layer.weight = weight  # type: ignore[assignment]
    layer.bias = bias  # type: ignore[assignment]
    return layer


def _plain(
    make: Callable[[], nn.Module], *allowed: str
) -> Callable[[Given, Stored], nn.Module | None]:
    """A layer without options: only where the call has none but ``allowed``."""
    return lambda given, stored: make() if set(given) <= {"self", "input", *allowed} else None


def _flatten(given: Given, stored: Stored) -> nn.Module | None:
    whole = given.get("start_dim", 0) == 1 and given.get("end_dim", -1) == -1
    return nn.Flatten() if whole else None


def _max_pool2d(given: Given, stored: Stored) -> nn.Module | None:
    options = {k: v for k, v in given.items() if k != "self"}
    sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    return nn.MaxPool2d(**sizes)


def _dropout(given: Given, stored: Stored) -> nn.Module | None:
    if given.get("train"):
        raise refused("dropout that is switched on", "a program exported in eval mode")
    return nn.Identity()


def _batch_norm(given: Given, stored: Stored) -> nn.Module | None:
    """Stays a call, whose statistics are the module's buffers; but not one that trains."""
    if given.get("training"):
        raise refused("batch norm that is training", "a program exported in eval mode")
    return None


LAYERS: dict[str, Callable[[Given, Stored], nn.Module | None]] = {
    "batch_norm.default": _batch_norm,
    "conv2d.default": _conv2d,
    "dropout.default": _dropout,
    "dropout_.default": _dropout,
    "flatten.using_ints": _flatten,
    "linear.default": _linear,
    "max_pool2d.default": _max_pool2d,
    "relu.default": _plain(nn.ReLU),
    "relu_.default": _plain(nn.ReLU),
    "sigmoid.default": _plain(nn.Sigmoid),
    "tanh.default": _plain(nn.Tanh),
}
