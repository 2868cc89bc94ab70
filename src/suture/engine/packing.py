"""Objects on their way to and from our own workers: bytes, with large arrays kept apart.

Tensors travel as arrays, not through torch's shared files, of which a process has only so many
open. This is pickle, and only ever between a session and the workers it has started itself.
Nothing that comes from a file or from elsewhere goes through here.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import torch

from suture.errors import EngineError

ALIGN = 64


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if type(value) is torch.Tensor and _plain(value):
            array = value.detach().cpu().contiguous()
            kind = str(array.dtype).removeprefix("torch.")
            raw = array.reshape(-1).view(torch.uint8).numpy()
            return _tensor, (raw, kind, tuple(value.shape), str(value.device), value.requires_grad)
        return NotImplemented


def _plain(value: torch.Tensor) -> bool:
    return value.layout is torch.strided and not value.is_quantized and value.is_leaf


def _tensor(
    raw: np.ndarray, kind: str, shape: tuple[int, ...], device: str, wanted: bool
) -> torch.Tensor:
    if not raw.flags.writeable:
        raw = raw.copy()
    flat = torch.from_numpy(raw)
    value = flat.view(getattr(torch, kind)).reshape(shape).to(device)
    return value.requires_grad_(wanted)


def pack(value: Any) -> bytes:
    """One message.

    Raises:
        EngineError: something in it cannot be sent to another process.
    """
    return _dumps(value, None)


def unpack(message: bytes) -> Any:
    """What ``pack`` was given."""
    return pickle.loads(message)


def pack_apart(value: Any) -> tuple[bytes, list[memoryview]]:
    """The structure, and the arrays beside it as plain memory (pickle's protocol 5)."""
    buffers: list[pickle.PickleBuffer] = []
    body = _dumps(value, buffers)
    return body, [buffer.raw() for buffer in buffers]


def unpack_apart(body: bytes, buffers: list[Any]) -> Any:
    """The value; its arrays lie in the buffers, without a copy where these can be written to."""
    return pickle.loads(body, buffers=buffers)


def layout(body: bytes, buffers: list[memoryview]) -> list[tuple[int, int]]:
    """Where body and buffers lie in one piece of memory: ``(start, length)``, aligned."""
    spans, at = [], 0
    for length in (len(body), *(buffer.nbytes for buffer in buffers)):
        spans.append((at, length))
        at += -(-length // ALIGN) * ALIGN
    return spans


def _dumps(value: Any, buffers: list[pickle.PickleBuffer] | None) -> bytes:
    to = io.BytesIO()
    callback = None if buffers is None else buffers.append
    try:
        _Pickler(to, protocol=5, buffer_callback=callback).dump(value)
    except (pickle.PicklingError, TypeError, AttributeError, RuntimeError) as error:
        raise EngineError(
            expected="functions, models and items that can be sent to another process",
            got=f"{type(error).__name__}: {error}",
            remedy="Use functions and classes of an importable module, or --engine inline.",
        ) from None
    return to.getvalue()
