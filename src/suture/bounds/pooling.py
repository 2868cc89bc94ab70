"""Max pooling, bounded as DeepPoly bounds it (Singh et al. 2019, Section 4.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from suture.bounds.affine import Boxes
from suture.bounds.coefficients import Patches
from suture.bounds.network import Op


@dataclass(frozen=True)
class MaxPool(Op):
    """2-D max pooling with windows of ``kernel``, moved by ``stride``."""

    bounded: ClassVar[bool] = True

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    ceil_mode: bool
    in_shape: tuple[int, ...]

    def forward(self, *values: Tensor) -> Tensor:
        """``(n, c, h, w)`` to ``(n, c, h', w')``."""
        return F.max_pool2d(
            values[0], self.kernel, self.stride, self.padding, ceil_mode=self.ceil_mode
        )

    def interval(self, lower: Boxes, upper: Boxes) -> tuple[Tensor, Tensor]:
        """Both ends: the function is monotone."""
        return self.forward(lower[0]), self.forward(upper[0])

    def bound_backward(self, rows: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Below, the input with the largest lower bound; above, that same input where it beats
        every other of its window, else the largest upper bound as a constant.

        Args:
            rows: ``(n or 1, rows, c, h', w')`` coefficients of a lower bound.
            lower, upper: ``(n, c, h, w)`` bounds of the input.
        """
        index, wins, ceiling = self._relaxed(lower, upper)
        rows = rows.expand(len(lower), *rows.shape[1:])
        negative = rows.clamp(max=0)
        kept = torch.where(wins[:, None], rows, rows - negative).flatten(3)
        out = rows.new_zeros(*rows.shape[:2], self.in_shape[0], lower[0, 0].numel())
        out = out.scatter_add(3, index[:, None].expand_as(kept), kept)
        add = (negative * ceiling[:, None]).flatten(2).sum(-1)
        return out.reshape(*rows.shape[:2], *self.in_shape), add

    def bound_backward_patches(
        self, patches: Patches, lower: Tensor, upper: Tensor
    ) -> tuple[Patches, Tensor] | None:
        """The same for coefficients in windows; ``None`` where poolings overlap or are padded."""
        if self.kernel != self.stride or any(self.padding):
            return None
        index, wins, ceiling = self._relaxed(lower, upper)
        value = patches.value
        negative = value.clamp(max=0)
        add = (negative * patches.gather(ceiling)).flatten(3).sum(-1)
        lose = patches.gather((~wins).to(value.dtype))
        wide = (value - negative * lose).repeat_interleave(self.kernel[0], -2)
        wide = wide.repeat_interleave(self.kernel[1], -1)
        winner = torch.zeros_like(lower).flatten(2).scatter(2, index, 1.0).view_as(lower)
        top, left = patches.top * self.kernel[0], patches.left * self.kernel[1]
        out = Patches(wide, top, left, self.in_shape)
        return out.replaced(wide * out.gather(winner)), add

    def _relaxed(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Flat position of the input with the largest lower bound, whether it beats all others,
        and the upper bound's constant (0 where it does): each ``(n, c, …)``."""
        best, index = F.max_pool2d(
            lower,
            self.kernel,
            self.stride,
            self.padding,
            ceil_mode=self.ceil_mode,
            return_indices=True,
        )
        index = index.flatten(2)
        own = upper.flatten(2).gather(2, index).reshape(best.shape)
        others = self._others(upper, index).reshape(best.shape)
        wins = best >= others
        ceiling = torch.where(wins, torch.zeros_like(own), torch.maximum(own, others))
        # A window without bounds must not look like one.
        lost = torch.isnan(best) | torch.isnan(own) | torch.isnan(others)
        unknown = ~(upper - lower < float("inf"))
        lost |= (
            F.max_pool2d(
                unknown.to(lower.dtype),
                self.kernel,
                self.stride,
                self.padding,
                ceil_mode=self.ceil_mode,
            )
            > 0
        )
        return index, wins, torch.where(lost, float("nan"), ceiling)

    def _others(self, upper: Tensor, index: Tensor) -> Tensor:
        """The largest upper bound in each window apart from the input at ``index``."""
        shape = upper.shape[-2:]
        order = torch.arange(shape[0] * shape[1], device=upper.device, dtype=upper.dtype)
        places = self._windows(order.view(1, 1, *shape).expand(1, upper.shape[1], *shape), -1.0)
        values = self._windows(upper, float("-inf"))
        own = places == index[..., None].to(upper.dtype)
        return values.masked_fill(own, float("-inf")).amax(-1)

    def _windows(self, feature_map: Tensor, outside: float) -> Tensor:
        """``(n, c, windows, kernel)``; cells outside the feature map hold ``outside``."""
        (kh, kw), (sh, sw), (ph, pw) = self.kernel, self.stride, self.padding
        height, width = feature_map.shape[-2:]
        far = [self._far(size, axis) for axis, size in enumerate((height, width))]
        wide = F.pad(feature_map, (pw, far[1], ph, far[0]), value=outside)
        windows = wide.unfold(2, kh, sh).unfold(3, kw, sw)
        return windows.reshape(*windows.shape[:2], -1, kh * kw)

    def _far(self, size: int, axis: int) -> int:
        """Padding at the far edge: more of it where the last window hangs over (ceil mode)."""
        kernel, stride, padding = self.kernel[axis], self.stride[axis], self.padding[axis]
        rest = (size + 2 * padding - kernel) % stride
        hangs = self.ceil_mode and rest != 0
        # A window must not start in the padding of the far edge.
        count = (size + 2 * padding - kernel) // stride + 1
        return padding + (stride - rest if hangs and count * stride < size + padding else 0)

    def to(self, dtype: torch.dtype) -> MaxPool:
        """Itself."""
        return self
