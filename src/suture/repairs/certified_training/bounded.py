"""Trainees whose network bounds read: sent to other processes without what was read."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import nn

from suture import bounds
from suture.bounds import Network
from suture.types import Batch


class BoundedTrainee:
    """A trainee with the network that bounds see; subclasses say which part of the module it is.

    Args:
        module: all weights.
        in_shape: ``(c, h, w)`` of what the bounded part reads.
    """

    def __init__(self, module: nn.Module, in_shape: tuple[int, ...]) -> None:
        self.module: Any = module
        self.in_shape = in_shape
        self.network = self._read()

    def bounded(self) -> nn.Module:
        """The part of the module whose answers are bounded."""
        return self.module  # type: ignore[no-any-return]

    def to(self, device: torch.device | str) -> Self:
        """Itself, moved in place."""
        self.module.to(device)
        for name, value in vars(self).items():
            if isinstance(value, Batch):
                setattr(self, name, value.to(device))
        self.network = self._read()
        return self

    def _read(self) -> Network:
        return bounds.read(self.bounded(), self.in_shape)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "network"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.network = self._read()
