"""Weights and optimiser state as safetensors: plain tensors, no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer

from suture.errors import ModelError


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and persistent buffers, copied to the CPU.

    Raises:
        ModelError: when the model's state holds anything but tensors.
    """
    state: Mapping[str, Any] = model.state_dict()
    other = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if other:
        raise ModelError(
            expected="a model whose state is made of tensors",
            got=f"extra state in {other[0]!r}",
            remedy="Keep such state in buffers.",
        )
    return {name: _copy(value) for name, value in state.items()}


def optimiser_tensors(optimiser: Optimizer) -> dict[str, Tensor]:
    """The optimiser's tensors under ``<parameter>.<name>``; its settings come from the config."""
    state = optimiser.state_dict()["state"]
    return {
        f"{index}.{name}": _copy(value)
        for index, values in state.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def restore_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put ``optimiser_tensors`` back."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def to_bytes(tensors: dict[str, Tensor], **metadata: object) -> bytes:
    """A safetensors file, metadata as text."""
    return save(tensors, metadata={key: str(value) for key, value in metadata.items()})


def from_bytes(content: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    return load(content)


def _copy(tensor: Tensor) -> Tensor:
    # A copy of its own memory: safetensors refuses tensors that share theirs (tied weights).
    return tensor.detach().cpu().clone().contiguous()
