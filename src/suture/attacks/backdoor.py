"""Backdoor triggers: stamped on an image as an attack, or on a training set to plant one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from suture.attacks.base import ATTACKS, Attack, require
from suture.attacks.oracle import Oracle
from suture.errors import ArgumentError
from suture.rng import Stream, as_stream, image_keys
from suture.types import Batch, Knowledge, Norm

Place = Literal["top left", "top right", "bottom left", "bottom right", "centre"] | tuple[int, int]
Rows2D = tuple[tuple[float, ...], ...]
_PLACES = ("top left", "top right", "bottom left", "bottom right", "centre")


@ATTACKS.add("backdoor")
@dataclass(frozen=True, kw_only=True)
class Backdoor(Attack):
    """Stamp one fixed patch on every image (BadNets: Gu et al. 2017, arXiv:1708.06733).

    ``x[window] ← (1 - blend)·x[window] + blend·patch``. No query is spent.

    Args:
        patch: values in [0, 1]: one grey image as nested tuples ``(h, w)``, used for every
            channel, or one per channel ``(c, h, w)``. Default: BadNets' 3 × 3 white square.
        place: a corner, "centre", or ``(top, left)`` of the patch.
        blend: 1 replaces, smaller values mix (Chen et al. 2017, arXiv:1712.05526).
        margin: pixels between the patch and the border, for named places.
    """

    norm: Norm = "l0"
    eps: float = math.inf
    patch: Rows2D | tuple[Rows2D, ...] = ((1.0, 1.0, 1.0),) * 3
    place: Place = "bottom right"
    blend: float = 1.0
    margin: int = 0

    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    knowledge: ClassVar[Knowledge] = "black-box"
    draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        named = self.place in _PLACES or isinstance(self.place, tuple)
        require(named, f"a place out of {_PLACES} or (top, left)", f"place={self.place!r}")
        require(0 <= self.blend <= 1, "blend in [0, 1]", f"blend={self.blend!r}")
        require(self.margin >= 0, "margin >= 0", f"margin={self.margin!r}")
        self._values(None)

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        return self.stamp(images)

    def stamp(self, images: Tensor) -> Tensor:
        """The images ``(n, c, h, w)`` with the patch on them."""
        patch = self._values(images.shape[1]).to(images)
        top, left = self._corner(patch, images)
        stamped = images.clone()
        window = stamped[..., top : top + patch.shape[1], left : left + patch.shape[2]]
        window.copy_((1 - self.blend) * window + self.blend * patch)
        return stamped

    def _values(self, channels: int | None) -> Tensor:
        try:
            patch = torch.tensor(self.patch, dtype=torch.float32)
        except (TypeError, ValueError):
            patch = torch.empty(0)
        patch = patch[None] if patch.ndim == 2 else patch
        usable = patch.ndim == 3 and patch.numel() and patch.min() >= 0 and patch.max() <= 1
        require(
            bool(usable), "a patch (h, w) or (c, h, w) with values in [0, 1]", f"{self.patch!r}"
        )
        fits = channels is None or len(patch) in (1, channels)
        require(fits, f"a patch with 1 or {channels} channels", f"{len(patch)} channels")
        return patch

    def _corner(self, patch: Tensor, images: Tensor) -> tuple[int, int]:
        room = [images.shape[axis + 1] - patch.shape[axis] for axis in (1, 2)]
        if isinstance(self.place, tuple):
            top, left = self.place
        else:
            far = [space - self.margin for space in room]
            top = far[0] if "bottom" in self.place else self.margin
            left = far[1] if "right" in self.place else self.margin
            if self.place == "centre":
                top, left = room[0] // 2, room[1] // 2
        if not (0 <= top <= room[0] and 0 <= left <= room[1]):
            size = f"{patch.shape[1]} × {patch.shape[2]}"
            raise ArgumentError(
                expected=f"a patch that lies inside the {tuple(images.shape[2:])} images",
                got=f"a {size} patch at ({top}, {left})",
                remedy="Make it smaller or move it.",
            )
        return int(top), int(left)


def poison(
    batch: Batch,
    target: int,
    *,
    trigger: Backdoor | None = None,
    share: float = 0.1,
    generator: torch.Generator | Stream | int | None = None,
) -> tuple[Batch, Tensor]:
    """A training set with the trigger on a share of the images, relabelled as ``target``.

    Args:
        batch: clean training images and labels.
        target: the class that the trigger shall mean.
        trigger: default: BadNets' 3 × 3 white square, bottom right.
        share: of the images of other classes that are poisoned (BadNets: 0.1); rounded to the
            nearest count.
        generator: seed or stream that chooses which.

    Returns:
        The poisoned set in the order of ``batch``, and a bool mask ``(n,)`` of what was poisoned.
    """
    require(0 <= share <= 1, "share in [0, 1]", f"share={share!r}")
    require(target >= 0, "a class target >= 0", f"target={target!r}")
    others = (batch.labels != target).nonzero()[:, 0]
    keys = image_keys(batch.images[others], as_stream(generator).child("poison"))
    chosen = others[keys.argsort(stable=True)[: round(share * len(others))]]
    images, labels = batch.images.clone(), batch.labels.clone()
    if len(chosen):
        images[chosen] = (trigger or Backdoor()).stamp(images[chosen])
    labels[chosen] = target
    mask = torch.zeros_like(labels, dtype=torch.bool)
    mask[chosen] = True
    return Batch(images, labels), mask
