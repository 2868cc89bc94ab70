"""Twelve defences that only look like one: each spoils the attacker's sight of an honest model."""

from __future__ import annotations

import io
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import dropout, interpolate, one_hot, pad
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

QUALITY = 60
CLASSES = 10


class Fake(nn.Module):
    """The honest model, behind something that confuses an attack and protects from nothing."""

    def __init__(self, honest: nn.Module) -> None:
        super().__init__()
        self.honest = honest


class Rounding(Fake):
    """Grey levels of a coarse grid; the gradient of a step function is zero."""

    def forward(self, images: Tensor) -> Tensor:
        return self.honest((images * 16).round() / 16)


class Temperature(Fake):
    """Logits so large that the cross entropy underflows."""

    def forward(self, images: Tensor) -> Tensor:
        return self.honest(images) * 1e3


class Probabilities(Fake):
    """Softmax, after a temperature at which it is flat almost everywhere."""

    def forward(self, images: Tensor) -> Tensor:
        return (self.honest(images) * 10).softmax(1)


class Detached(Fake):
    """The gradient is cut, and parameters keep the outputs differentiable."""

    def forward(self, images: Tensor) -> Tensor:
        return self.honest(images.detach())


class _Junk(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return images.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(slopes[0].shape, generator=generator)


class JunkGradient(Fake):
    """An identity whose gradient is noise."""

    def forward(self, images: Tensor) -> Tensor:
        return self.honest(_Junk.apply(images))


class Shattered(Fake):
    """Ripples of an eighth of a grey level: they change nothing and rule the gradient."""

    def forward(self, images: Tensor) -> Tensor:
        return self.honest(images + 5e-4 * torch.sin(5e4 * images))


class UnseededNoise(Fake):
    """Noise from torch's own generator, of which the model says nothing."""

    def forward(self, images: Tensor) -> Tensor:
        return self.honest(images + 0.1 * torch.randn_like(images))


class OneHot(Fake):
    """The class alone: no scores, no gradients."""

    def forward(self, images: Tensor) -> Tensor:
        return one_hot(self.honest(images).argmax(1), CLASSES).float()


class JPEG(Fake):
    """Compression of every picture, with 8 bits and no gradient."""

    def forward(self, images: Tensor) -> Tensor:
        return self.honest(torch.stack([self._compressed(image) for image in images.detach()]))

    def _compressed(self, image: Tensor) -> Tensor:
        file = io.BytesIO()
        to_pil_image(image.cpu()).save(file, "JPEG", quality=QUALITY)
        return pil_to_tensor(Image.open(file)).to(image) / 255


class ResizePad(Fake):
    """Another size and place at every call (Xie et al. 2018)."""

    def forward(self, images: Tensor) -> Tensor:
        side = images.shape[-1]
        smaller = int(torch.randint(side - 1, side + 1, ()))
        left, top = torch.randint(0, side - smaller + 1, (2,)).tolist()
        small = interpolate(images, size=(smaller, smaller), mode="bilinear")
        right, below = side - smaller - left, side - smaller - top
        return self.honest(pad(small, (left, right, top, below)))


class DropoutOn(Fake):
    """Dropout that no mode turns off."""

    def forward(self, images: Tensor) -> Tensor:
        return self.honest(dropout(images, 0.1, training=True))


class Nearest(Fake):
    """Answers for the nearest training image in place of the given one."""

    def __init__(self, honest: nn.Module, known: Tensor) -> None:
        super().__init__(honest)
        self.register_buffer("known", known)

    def forward(self, images: Tensor) -> Tensor:
        away = torch.cdist(images.flatten(1), self.known.flatten(1))
        return self.honest(self.known[away.argmin(1)])


def fakes(honest: nn.Module, known: Tensor) -> dict[str, nn.Module]:
    """All of them, around one honest model; ``known`` are training images."""
    plain = [kind for kind in Fake.__subclasses__() if kind.__module__ == __name__]
    plain.remove(Nearest)
    made: dict[str, nn.Module] = {kind.__name__: kind(honest).eval() for kind in plain}
    return made | {"Nearest": Nearest(honest, known).eval()}
