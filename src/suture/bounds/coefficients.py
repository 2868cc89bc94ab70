"""Linear coefficients on a feature map that are zero outside a small window: one window a row.

A neuron of an early convolution sees a few pixels only. Keeping its coefficients as a window,
and the window's place, costs a fraction of the dense form (Xu et al. 2020, "patches mode").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Patches:
    """Coefficients of ``rows × places`` linear forms on values of one shape.

    Attributes:
        value: ``(n or 1, rows, places, channels, kh, kw)``.
        top, left: ``(places,)`` where each window starts; parts outside the map are ignored.
        shape: ``(channels, height, width)`` of the feature map.
        clean: whether the parts outside the feature map are known to be zero.
    """

    value: Tensor
    top: Tensor
    left: Tensor
    shape: tuple[int, ...]
    clean: bool = False

    @property
    def wasteful(self) -> bool:
        """Whether windows are as large as the feature map, so that the dense form is smaller."""
        return self.value.shape[-1] * self.value.shape[-2] >= self.shape[1] * self.shape[2]

    def replaced(self, value: Tensor) -> Patches:
        """Other values at the same places, zero outside the feature map."""
        return Patches(value, self.top, self.left, self.shape, clean=True)

    def cleaned(self) -> Patches:
        """The same, with zeros outside the feature map."""
        if self.clean:
            return self
        return self.replaced(self.value * self.gather(self.value.new_ones(1, 1, *self.shape[1:])))

    def gather(self, feature_map: Tensor) -> Tensor:
        """Windows of a feature map ``(n, c, h, w)``: ``(n, 1, places, c, kh, kw)``, 0 outside."""
        kh, kw = self.value.shape[-2:]
        up, side = max(0, -int(self.top.min())), max(0, -int(self.left.min()))
        down = max(0, int(self.top.max()) + kh - feature_map.shape[-2])
        far = max(0, int(self.left.max()) + kw - feature_map.shape[-1])
        wide = F.pad(feature_map, (side, far, up, down))
        windows = wide.unfold(2, kh, 1).unfold(3, kw, 1)
        chosen = windows[:, :, self.top + up, self.left + side]
        return chosen.transpose(1, 2)[:, None]

    def dense(self) -> Tensor:
        """The same coefficients as ``(n or 1, rows · places, channels, height, width)``."""
        n, rows, places, channels, kh, kw = self.value.shape
        height, width = self.shape[1:]
        # Everything that hangs over lands in one extra cell, which is cut off.
        y = self.top[:, None] + torch.arange(kh, device=self.top.device)
        x = self.left[:, None] + torch.arange(kw, device=self.top.device)
        lies = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
        flat = torch.where(lies, y[:, :, None] * width + x[:, None, :], height * width)
        index = flat.view(1, 1, places, 1, kh * kw).expand(n, rows, places, channels, kh * kw)
        out = self.value.new_zeros(n, rows, places, channels, height * width + 1)
        out = out.scatter_add(-1, index, self.value.reshape(n, rows, places, channels, kh * kw))
        return out[..., :-1].reshape(n, rows * places, channels, height, width)


def merged(first: Patches, second: Patches) -> Patches | None:
    """The sum of two; ``None`` if their windows do not move together."""
    down, right = second.top - first.top, second.left - first.left
    if bool((down != down[0]).any()) or bool((right != right[0]).any()):
        return None
    dy, dx = int(down[0]), int(right[0])
    (ah, aw), (bh, bw) = first.value.shape[-2:], second.value.shape[-2:]
    top, left = min(0, dy), min(0, dx)
    bottom, end = max(ah, dy + bh), max(aw, dx + bw)
    one = F.pad(first.value, (-left, end - aw, -top, bottom - ah))
    two = F.pad(second.value, (dx - left, end - dx - bw, dy - top, bottom - dy - bh))
    return Patches(one + two, first.top + top, first.left + left, first.shape)
