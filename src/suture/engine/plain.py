"""Plain data as one file: a tree of JSON values with tensors and arrays at its leaves.

A safetensors file whose metadata holds the tree. Reading it cannot run anything, and what comes
back is what was written, to the bit.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

from suture.errors import BundleError

_MARK = "\u0000"  # the key of what JSON has no value for, and of dicts that have this key


def to_bytes(value: Any) -> bytes:
    """A tree of dicts (with text keys), lists, numbers, texts, tensors and arrays as bytes."""
    tensors: dict[str, torch.Tensor] = {}
    tree = json.dumps(_lower(value, tensors), ensure_ascii=False)
    return save(tensors, metadata={"tree": tree})


def from_bytes(content: bytes) -> Any:
    """The inverse of ``to_bytes``; tuples come back as lists.

    Raises:
        BundleError: the bytes are something else.
    """
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        return _lift(json.loads(header["__metadata__"]["tree"]), tensors)
    except Exception as error:  # noqa: BLE001 - safetensors raises a type of its own
        raise BundleError(
            expected="a kept result as suture writes it",
            got=f"{type(error).__name__}: {error}",
            remedy="Remove the file: what it held is computed anew.",
        ) from None


def _lower(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, (torch.Tensor, np.ndarray)):
        name = str(len(tensors))
        if isinstance(value, np.ndarray):
            tensors[name] = torch.from_numpy(np.array(value, order="C"))
            return {_MARK: ["array", name]}
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {_MARK: ["tensor", name]}
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value), "keys are texts"
        lowered = {key: _lower(part, tensors) for key, part in value.items()}
        return {_MARK: ["dict", lowered]} if _MARK in value else lowered
    if isinstance(value, (list, tuple)):
        return [_lower(part, tensors) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _lift(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, dict) and _MARK in value:
        kind, what = value[_MARK]
        if kind == "dict":
            return _parts(what, tensors)
        return tensors[what].numpy() if kind == "array" else tensors[what]
    if isinstance(value, dict):
        return _parts(value, tensors)
    if isinstance(value, list):
        return [_lift(part, tensors) for part in value]
    return value


def _parts(value: dict[str, Any], tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {key: _lift(part, tensors) for key, part in value.items()}
