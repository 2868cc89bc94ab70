"""A small denoiser, and the classifier that looks through one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from suture.errors import ModelError
from suture.models import attach, build_from_spec, files_of, register_builder, spec_of
from suture.types import RepairedModel

KIND, BEHIND = "dncnn", "denoised"


class DnCNN(nn.Module):
    """``D(x) = x - R(x)``: R predicts the noise (Zhang et al. 2017, arXiv:1608.03981).

    Convolutions 3×3, ReLU after all but the last, batch norm between. The last one begins at zero:
    an untrained denoiser changes nothing.

    Args:
        channels: of the images.
        depth: convolutions, at least 2 (paper: 17).
        width: channels inside (paper: 64).
    """

    def __init__(self, channels: int, depth: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
        last = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.noise = nn.Sequential(*layers, last)

    def forward(self, images: Tensor) -> Tensor:
        """``(n, c, h, w)``, noisy, to the same shape; not clipped."""
        return images - self.noise(images)


def build_denoiser(channels: int, depth: int, width: int, seed: int = 0) -> DnCNN:
    """With initial weights from the seed, and a spec."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed & (2**63 - 1))
        made = DnCNN(channels, depth, width)
    attach(made, {"kind": KIND, "channels": channels, "depth": depth, "width": width})
    return made.eval()


class DenoisedClassifier(RepairedModel):
    """``f(D(x))``: a denoiser before a classifier that stays as it was.

    Args:
        denoiser: images to images of the same shape.
        classifier: images to logits.
    """

    def __init__(self, denoiser: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.denoiser, self.classifier = denoiser, classifier

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(n, classes)``."""
        return self.classifier(self.denoiser(images))  # type: ignore[no-any-return]

    def undefended(self) -> nn.Module:
        """The classifier alone."""
        return self.classifier


def behind(denoiser: nn.Module, classifier: nn.Module) -> DenoisedClassifier:
    """The two together, with a spec if both have one; otherwise it cannot be saved."""
    made = DenoisedClassifier(denoiser, classifier).eval()
    try:
        spec = {"kind": BEHIND, "base": spec_of(classifier), "denoiser": spec_of(denoiser)}
    except ModelError:
        return made
    attach(made, spec, {**files_of(classifier), **files_of(denoiser)})
    return made


def _build(spec: dict[str, Any], folder: Path | None) -> nn.Module:
    return DnCNN(int(spec["channels"]), int(spec["depth"]), int(spec["width"]))


def _build_behind(spec: dict[str, Any], folder: Path | None) -> nn.Module:
    parts = (build_from_spec(spec[name], folder) for name in ("denoiser", "base"))
    return DenoisedClassifier(*parts)


register_builder(KIND, _build)
register_builder(BEHIND, _build_behind)
