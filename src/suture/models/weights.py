"""Weights come from safetensors or from a plain state dict; nothing is unpickled into code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from suture.errors import ModelError
from suture.models.checks import check_weights
from suture.models.messages import first_line
from suture.models.recognising import pickled_class, whole_module

_SHOWN = 5


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors in a ``.safetensors`` file or a state dict saved with ``torch.save``.

    State dicts are read with ``weights_only=True``; a single nested ``state_dict`` is unwrapped.

    Raises:
        ModelError: if the file is missing, damaged, or holds anything but named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise _unusable(path, "no such file")
    try:
        state = _read(path)
    except Exception as error:
        if path.suffix != ".safetensors" and (name := pickled_class(path)) is not None:
            got, remedy = whole_module(path, name)
            raise ModelError(expected="weights alone", got=got, remedy=remedy) from error
        raise _unusable(path, _reason(error)) from error
    return state


def _reason(error: Exception) -> str:
    """What is wrong with the file, without torch's advice to trust it."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = first_line(error)
    return text if text.startswith("something other") else "no file of weights, or a damaged one"


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_safetensors(path.read_bytes(), path)
    content: Any = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()
    ):
        raise ValueError("something other than a dict of named tensors")
    return dict(content)


def read_safetensors(content: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file; ``path`` is for the error alone.

    Raises:
        ModelError: if the bytes are damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise _unusable(path, str(error)) from error


def _unusable(path: Path, reason: str) -> ModelError:
    return ModelError(
        expected=f"a safetensors file, or a state dict saved by torch.save, at {path}",
        got=reason,
        remedy="Save the weights with safetensors.torch.save_file(model.state_dict(), path).",
    )


def apply_weights(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Put weights into a model of the same structure, exactly; returns the model.

    Raises:
        ModelError: listing the first names or shapes that differ, or naming a layer with NaN.
    """
    own = model.state_dict()
    wrong = [*_differences(own, state)]
    if wrong:
        shown = "; ".join(wrong[:_SHOWN])
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise ModelError(
            expected="weights that match the model's layers and shapes",
            got=shown + more,
            remedy="Build the architecture, in_shape and classes that the weights were made for.",
        )
    model.load_state_dict(dict(state), strict=True)
    check_weights(model)
    return model


def _differences(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    shapes = [
        f"{name} has shape {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    missing = [f"{name} is missing" for name in own if name not in state]
    surplus = [f"{name} is not in the model" for name in state if name not in own]
    return shapes + missing + surplus
