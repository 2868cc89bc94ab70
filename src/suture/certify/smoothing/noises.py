"""The two kinds of noise, and what a share of votes proves under each."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from scipy.special import ndtri
from torch import Tensor

from suture.certify.smoothing.ablating import ablated, encoded, kept_pixels
from suture.certify.smoothing.gaussians import noisy, normals
from suture.errors import ArgumentError, BundleError, require


@dataclass(frozen=True)
class RandomCopies(ABC):
    """A kind of noise with a certificate; implements ``suture.types.Noise``."""

    name: ClassVar[str]
    distance: ClassVar[str]
    """What radii are measured in, in words."""
    unit: ClassVar[str]

    @property
    def facts(self) -> dict[str, Any]:
        """Its name and its settings."""
        return {"name": self.name, **asdict(self)}

    @abstractmethod
    def copies(self, images: Tensor, keys: Tensor) -> Tensor:
        """See ``suture.types.Noise``."""

    @abstractmethod
    def again(self, images: Tensor, keys: Tensor) -> Tensor:
        """The same copies to the bit, by plain tensor operations: for whoever checks."""

    @abstractmethod
    def whole(self, images: Tensor) -> Tensor:
        """The images as the voters read them, without noise."""

    @abstractmethod
    def radius(self, share: float, image: Tensor) -> float:
        """What is certified if the class has at least this share of all copies, ``share > 1/2``.

        Args:
            image: ``(c, h, w)``.
        """

    @abstractmethod
    def grid(self, radii: list[float]) -> list[float]:
        """Radii at which certified accuracy is told."""


@dataclass(frozen=True)
class Gaussian(RandomCopies):
    """``x + ε``, ε normal with standard deviation σ in every value (Cohen et al. 2019).

    Args:
        sigma: σ, pixel values.
    """

    sigma: float

    name: ClassVar[str] = "gaussian"
    distance: ClassVar[str] = "L2, pixel values in [0, 1]"
    unit: ClassVar[str] = "L2"

    def __post_init__(self) -> None:
        require({"0 < sigma < inf": 0 < self.sigma < math.inf}, self, "Usual: 0.12 to 1.")

    def copies(self, images: Tensor, keys: Tensor) -> Tensor:
        """``(n, c, h, w)``; not clipped to [0, 1]."""
        return noisy(images, keys, self.sigma)

    def again(self, images: Tensor, keys: Tensor) -> Tensor:
        values = normals(keys, images[0].numel()).view(-1, *images.shape[1:])
        # As the compiled loop does: the width is a float32 number.
        return images + (torch.tensor(self.sigma, dtype=torch.float32) * values)

    def whole(self, images: Tensor) -> Tensor:
        """As they are."""
        return images

    def radius(self, share: float, image: Tensor) -> float:
        """``σ Φ⁻¹(share)`` (Theorem 1 with the runner-up's share bounded by the rest)."""
        return float(self.sigma * ndtri(share))

    def grid(self, radii: list[float]) -> list[float]:
        """Quarters, up to the largest radius."""
        return [step / 4 for step in range(1 + int(4 * max(radii, default=0.0)) + 1)]


@dataclass(frozen=True)
class Ablation(RandomCopies):
    """k pixels of the image and nothing of the others (Levine & Feizi 2020).

    Args:
        keep: k.
    """

    keep: int

    name: ClassVar[str] = "ablation"
    distance: ClassVar[str] = "L0, pixels changed"
    unit: ClassVar[str] = "pixels"

    def __post_init__(self) -> None:
        require({"keep >= 1": self.keep >= 1}, self, "The paper: 45 MNIST, 75 CIFAR-10.")

    def copies(self, images: Tensor, keys: Tensor) -> Tensor:
        """``(n, 2c, h, w)``."""
        self.check(images.shape[2] * images.shape[3])
        return ablated(images, keys, self.keep)

    def again(self, images: Tensor, keys: Tensor) -> Tensor:
        kept = kept_pixels(keys, images.shape[2] * images.shape[3], self.keep)
        return encoded(images, kept.view(-1, 1, *images.shape[2:]).to(images.dtype))

    def whole(self, images: Tensor) -> Tensor:
        """``(n, 2c, h, w)``, every pixel kept."""
        return encoded(images)

    def check(self, pixels: int) -> None:
        """Raise ``ArgumentError`` where an image has fewer pixels than are kept."""
        if self.keep > pixels:
            raise ArgumentError(
                expected=f"keep of at most {pixels}, the pixels of an image",
                got=f"keep={self.keep}",
                remedy="The paper keeps 45 of MNIST's 784 pixels, 75 of CIFAR-10's 1 024.",
            )

    def radius(self, share: float, image: Tensor) -> float:
        """The most pixels ρ with ``share - Δ > 1/2``, ``Δ = 1 - C(d-ρ, k)/C(d, k)`` (Theorem 1)."""
        pixels, untouched, changed = image[0].numel(), 1.0, 0
        # C(d-ρ-1, k) / C(d-ρ, k) = (d-ρ-k) / (d-ρ); a hair keeps rounding on the safe side.
        while changed < pixels:
            untouched *= (pixels - changed - self.keep) / (pixels - changed)
            if not share - (1.0 - untouched) > 0.5 + 1e-12:
                break
            changed += 1
        return float(changed)

    def grid(self, radii: list[float]) -> list[float]:
        """0 to 4, then in steps that double."""
        most, grid, step = max(radii, default=0.0), [0.0, 1.0, 2.0, 3.0, 4.0], 2.0
        while grid[-1] < most:
            grid.append(grid[-1] + step)
            step = step * 2 if len(grid) % 4 == 0 else step
        return grid


KINDS: dict[str, type[RandomCopies]] = {kind.name: kind for kind in (Gaussian, Ablation)}


def noise_of(facts: Mapping[str, Any]) -> RandomCopies:
    """The noise with these facts.

    Raises:
        BundleError: they are not those of a known kind.
    """
    try:
        settings = {key: value for key, value in facts.items() if key != "name"}
        return KINDS[facts["name"]](**settings)
    except (KeyError, TypeError, ArgumentError, AttributeError) as error:
        raise BundleError(
            expected=f"noise out of {', '.join(KINDS)}, with its settings",
            got=repr(facts),
            remedy="The file was altered, or another version wrote it.",
        ) from error
