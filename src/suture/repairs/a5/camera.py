"""A: from an object's appearance to a picture of it, with the randomness of a real camera.

Every picture has its own draws, a function of its key: its neighbours in the batch do not matter.
Warping and blurring are kornia's, with gradients to the object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from suture.errors import DependencyError, require
from suture.rng import Stream, bits, normal, uniform

_POSITIVE = (1 << 63) - 1


@dataclass(frozen=True)
class Camera:
    """The acquisition model of A5 for letters, as the authors' code has it; for 128 × 128 pixels.

    In this order: shift, rotation and perspective as one projection (black outside), inversion,
    noise, blur, jitter of brightness and contrast (which of the two comes first is drawn; pixels
    are clipped to [0, 1] after each). The paper names these steps, its code order and strengths.
    There one draw holds for a whole batch, shifts are whole pixels, and one perspective in a
    hundred is left out; here every picture draws for itself. Saturation and hue, which the code
    jitters too, do nothing to grey pictures.

    Args:
        shift: largest shift in either direction, in pixels.
        degrees: largest rotation.
        perspective: largest move of a corner towards the middle, as a share of half a side.
        inversion: probability of white turning into black.
        jitter: brightness is scaled, and contrast about the mean grey, by 1 - jitter to 1 + jitter.
        blur: smallest and largest standard deviation of a Gaussian, in pixels.
        kernel: side of the blur's window; odd.
        noise: smallest and largest standard deviation of Gaussian noise, pixel values in [0, 1].

    Raises:
        ArgumentError: a value out of range.
    """

    shift: float = 5.0
    degrees: float = 5.0
    perspective: float = 0.25
    inversion: float = 1.0
    jitter: float = 0.1
    blur: tuple[float, float] = (0.01, 1.0)
    kernel: int = 9
    noise: tuple[float, float] = (0.001, 0.1)

    def __post_init__(self) -> None:
        checks = {
            "shift, degrees >= 0": min(self.shift, self.degrees) >= 0,
            "jitter in [0, 1)": 0 <= self.jitter < 1,
            "perspective in [0, 1)": 0 <= self.perspective < 1,
            "inversion in [0, 1]": 0 <= self.inversion <= 1,
            "0 < blur[0] <= blur[1]": 0 < self.blur[0] <= self.blur[1],
            "0 <= noise[0] <= noise[1]": 0 <= self.noise[0] <= self.noise[1],
            "an odd kernel": self.kernel % 2 == 1,
        }
        require(checks, self, "See the documentation of Camera.")

    def __call__(self, objects: Tensor, keys: Tensor) -> Tensor:
        """Pictures ``(n, c, h, w)`` in [0, 1].

        Args:
            objects: float ``(n, c, h, w)`` in [0, 1].
            keys: int64 ``(n,)`` on the CPU, 64 random bits each.

        Raises:
            DependencyError: kornia is missing.
        """
        kornia = _kornia()
        height, width = objects.shape[2:]
        matrix = self._projection(kornia, keys, height, width).to(objects)
        seen = kornia.geometry.transform.warp_perspective(
            objects, matrix, (height, width), align_corners=True
        )
        turned = (uniform(bits(keys, 20)) < self.inversion).to(objects.device)
        seen = torch.where(_wide(turned), 1 - seen, seen)
        seen = seen + self._noise(keys, seen)
        sigma = uniform(bits(keys, 23), *self.blur).to(objects)
        window = (self.kernel, self.kernel)
        seen = kornia.filters.gaussian_blur2d(seen, window, sigma[:, None].expand(-1, 2))
        return self._jittered(keys, seen)

    def _jittered(self, keys: Tensor, seen: Tensor) -> Tensor:
        scales = 1 - self.jitter, 1 + self.jitter
        bright, contrast = (_wide(uniform(bits(keys, i), *scales).to(seen)) for i in (21, 22))
        first = _wide((uniform(bits(keys, 27)) < 0.5).to(seen.device))
        one = _contrast((seen * bright).clamp(0, 1), contrast)
        other = (_contrast(seen, contrast) * bright).clamp(0, 1)
        return torch.where(first, one, other)

    def _projection(self, kornia: Any, keys: Tensor, height: int, width: int) -> Tensor:
        """``(n, 3, 3)``: where each pixel of the object lands."""
        right, bottom = width - 1.0, height - 1.0
        corners = torch.tensor([[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]])
        middle = torch.tensor([right / 2, bottom / 2])
        inward = torch.stack([uniform(bits(keys, i), 0, self.perspective) for i in range(8)], 1)
        moved = corners + inward.view(-1, 4, 2) * (middle - corners)
        angle = uniform(bits(keys, 8), -self.degrees, self.degrees).deg2rad()
        cos, sin = angle.cos(), angle.sin()
        turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        shift = torch.stack([uniform(bits(keys, i), -self.shift, self.shift) for i in (9, 10)], 1)
        moved = (moved - middle) @ turn.transpose(1, 2) + middle + shift[:, None]
        start = corners.expand(len(keys), -1, -1)
        found: Tensor = kornia.geometry.transform.get_perspective_transform(start, moved)
        return found

    def _noise(self, keys: Tensor, like: Tensor) -> Tensor:
        keys = keys.to(like.device)  # a number a pixel: drawn where they are wanted
        place = torch.arange(like[0].numel(), device=like.device)
        draws = normal(bits(keys[:, None], 24, place), bits(keys[:, None], 25, place))
        sigma = uniform(bits(keys, 26), *self.noise)
        return (sigma[:, None] * draws).view(like.shape).to(like)


def keys_of(count: int, stream: Stream) -> Tensor:
    """One key for each of ``count`` pictures."""
    root = torch.full((count,), stream.key & _POSITIVE, dtype=torch.int64)
    return bits(root, torch.arange(count))


def acquired(objects: Tensor, camera: Camera, keys: Tensor, *, grey: bool = False) -> Tensor:
    """Pictures; of grey objects one channel is acquired, and stands in all of them.

    Args:
        objects: ``(n, c, h, w)`` in [0, 1].
        keys: as for ``Camera``.
        grey: whether all channels of the objects are equal, and stay so.
    """
    if not grey:
        return camera(objects, keys)
    return camera(objects[:, :1], keys).expand(-1, objects.shape[1], -1, -1)


def in_8_bits(pictures: Tensor) -> Tensor:
    """Rounded to the nearest grey level."""
    return (pictures * 255).round() / 255


def _contrast(seen: Tensor, scale: Tensor) -> Tensor:
    """Nearer to the mean grey of each picture, or farther from it."""
    mean = seen.mean((1, 2, 3), keepdim=True)
    return (mean + scale * (seen - mean)).clamp(0, 1)


def _wide(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _kornia() -> Any:
    try:
        import kornia
    except ImportError:
        raise DependencyError(
            expected="the package kornia, for the camera",
            got="an environment without it",
            remedy="pip install 'suture[camera]'",
        ) from None
    return kornia
