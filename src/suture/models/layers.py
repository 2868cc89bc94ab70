"""The few layers that PyTorch lacks; when a model is cut, each stays whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from suture.errors import ArgumentError
from suture.rng import bits, uniform


class Normalise(nn.Module):
    """``(x - mean) / std`` per channel, so that a classifier takes plain pixels in [0, 1].

    Args:
        mean: one value per channel, in pixel units of [0, 1].
        std: one positive value per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        _check_constants(mean, std)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(n, c, h, w)`` to the same shape."""
        return (images - self.mean) / self.std

    def extra_repr(self) -> str:
        """The constants, as the user gave them."""
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"


def _check_constants(mean: Sequence[float], std: Sequence[float]) -> None:
    if len(mean) != len(std) or not len(mean) or not all(0 < s < float("inf") for s in std):
        raise ArgumentError(
            expected="mean and std with one value per channel, every std > 0",
            got=f"mean={list(mean)}, std={list(std)}",
            remedy="For pixels in [0, 1] that need nothing use mean=[0], std=[1].",
        )


class Affine(nn.Module):
    """``scale * x + shift`` with constants that broadcast against one example.

    Either may be ``None`` (1 and 0). What an importer makes of stray arithmetic with constants.
    """

    scale: Tensor | None
    shift: Tensor | None

    def __init__(self, scale: Tensor | None = None, shift: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, ...)`` to the same or the broadcast shape."""
        if self.scale is not None:
            x = x * self.scale
        return x if self.shift is None else x + self.shift


class Permute(nn.Module):
    """Reorders the axes; ``order`` counts the batch axis, as ``Tensor.permute`` does."""

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.order = tuple(int(axis) for axis in order)

    def forward(self, x: Tensor) -> Tensor:
        """The same values with axes in the new order."""
        return x.permute(self.order)

    def extra_repr(self) -> str:
        """The order."""
        return f"order={self.order}"


class Reshape(nn.Module):
    """Reshapes to ``shape``, which names every axis and holds -1 where the batch size enters."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(int(size) for size in shape)

    def forward(self, x: Tensor) -> Tensor:
        """The same values in the new shape."""
        return x.reshape(self.shape)

    def extra_repr(self) -> str:
        """The shape."""
        return f"shape={self.shape}"


class Repeat(nn.Module):
    """A constant, once for every example of its input: a class token, for instance.

    Args:
        value: the constant, with a leading axis of length 1.
    """

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, ...)``, of which only n matters, to ``(n, *value.shape[1:])``."""
        return self.value.expand(x.shape[0], *self.value.shape[1:])


class Uniform(nn.Module):
    """One uniform number in [low, high) for every image.

    Args:
        low, high: the range.
        index: tells the draws of one network apart.
    """

    def __init__(self, low: float, high: float, index: int = 0) -> None:
        super().__init__()
        self.low, self.high, self.index = low, high, index

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images ``(n, c, h, w)``, of which only n matters, to ``(n,)``.

        Args:
            noise: int64 ``(n,)``, random bits that decide; ``None`` leaves it to torch.
        """
        if noise is None:
            share = torch.rand(len(images), device=images.device)
            return self.low + (self.high - self.low) * share
        return uniform(bits(noise, self.index), self.low, self.high)

    def extra_repr(self) -> str:
        """The range."""
        return f"low={self.low}, high={self.high}"


LEAVES: tuple[type[nn.Module], ...] = (Normalise, Affine, Permute, Reshape, Repeat, Uniform)
