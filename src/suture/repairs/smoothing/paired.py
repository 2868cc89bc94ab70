"""A given classifier that reads ablated images: its first layer with doubled channels.

The code of a pixel has two halves, ``x`` and ``1 - x``, both 0 where the pixel is ablated. The
given first layer reads the first half, through what stands before it (a normalisation, a flatten);
a second one of the same shape reads the other half and is added. Together they are one layer with
doubled channels, whose weights for the second half begin at zero: on a whole image the network
answers as the given one does, and 0 and "nothing" are told apart as soon as it learns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from suture.certify.smoothing.ablating import encoded
from suture.errors import ModelError
from suture.models import attach, build_from_spec, cut, files_of, register_builder, spec_of
from suture.models.cutting import layer_names
from suture.types import RepairedModel

KIND = "paired"


class PairedClassifier(RepairedModel):
    """``head(encoder(x) + second(1 - x))`` on codes ``(n, 2c, h, w)``.

    Args:
        encoder: up to the first layer with weights, flat features out.
        second: of that layer's shape; reads the other half of the code.
        head: the rest.
    """

    def __init__(self, encoder: nn.Module, second: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.second, self.head = encoder, second, head

    def forward(self, codes: Tensor) -> Tensor:
        """Logits ``(n, classes)``."""
        first, other = codes.chunk(2, 1)
        if isinstance(self.second, nn.Linear):
            other = other.flatten(1)
        return self.head(self.encoder(first) + self.second(other).flatten(1))  # type: ignore[no-any-return]

    def undefended(self) -> nn.Module:
        """The network on whole images."""
        return OnWholeImages(self)


class OnWholeImages(nn.Module):
    """A classifier of codes on images of which no pixel is ablated."""

    def __init__(self, paired: nn.Module) -> None:
        super().__init__()
        self.paired = paired

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(n, classes)`` of ``(n, c, h, w)``."""
        return self.paired(encoded(images))  # type: ignore[no-any-return]


def paired(model: nn.Module, in_shape: tuple[int, int, int]) -> PairedClassifier:
    """A copy of the model that reads codes; on whole images it answers as the model does.

    Raises:
        ModelError: the first layer with weights is no convolution or linear layer over the image,
            or the model cannot be cut behind it.
    """
    at, layer = _first_layer(model, in_shape)
    parts = cut(model, at=at, in_shape=in_shape)
    made = PairedClassifier(parts.encoder, _second(layer), parts.head).eval()
    images = torch.rand(2, *in_shape, generator=torch.Generator().manual_seed(0))
    _check(made, images.to(next(model.parameters())))
    try:
        spec = {"kind": KIND, "base": spec_of(model), "at": at, "in_shape": list(in_shape)}
    except ModelError:
        return made
    attach(made, spec, files_of(model))
    return made


def _first_layer(model: nn.Module, in_shape: tuple[int, int, int]) -> tuple[str, nn.Module]:
    modules = dict(model.named_modules())
    for name in layer_names(model, in_shape=in_shape):
        layer = modules.get(name)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            return name, layer
        if layer is not None and any(p.ndim > 1 for p in layer.parameters(recurse=False)):
            break  # a layer with weights of another kind comes first
    raise _refused("another first layer with weights, or one that a skip connection bypasses")


def _second(layer: nn.Module) -> nn.Module:
    """A layer of the same shape without bias, all zero."""
    if isinstance(layer, nn.Linear):
        made: nn.Module = nn.Linear(layer.in_features, layer.out_features, bias=False)
    else:
        assert isinstance(layer, nn.Conv2d), "what _first_layer gives"
        made = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            layer.groups,
            bias=False,
            padding_mode=layer.padding_mode,
        )
    with torch.no_grad():
        for weights in made.parameters():
            weights.zero_()
    return made.to(next(layer.parameters()))


def _check(made: PairedClassifier, images: Tensor) -> None:
    """Its two halves must fit together."""
    try:
        with torch.no_grad():
            made(encoded(images))
    except RuntimeError as error:
        raise _refused(str(error).splitlines()[0]) from error


def _refused(got: str) -> ModelError:
    return ModelError(
        expected="a network whose first layer is a convolution or a linear layer over the image",
        got=got,
        remedy="Ablation doubles the channels of that layer; use smoothing for other networks.",
    )


def _build(spec: dict[str, Any], folder: Path | None) -> nn.Module:
    channels, height, width = spec["in_shape"]
    return paired(build_from_spec(spec["base"], folder), (channels, height, width))


register_builder(KIND, _build)
