"""The zoo's chains: every one a flat ``nn.Sequential`` that bounds and cuts read directly."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from suture.errors import ModelError

Shape = tuple[int, int, int]
Layers = list[nn.Module]


def features_of(layers: Sequence[nn.Module], in_shape: Shape) -> int:
    """How many numbers ``layers`` make of one image, found on the meta device.

    Raises:
        ModelError: if the image is too small for the layers.
    """
    chain = copy.deepcopy(nn.Sequential(*layers)).to("meta").eval()
    try:
        return int(chain(torch.empty(1, *in_shape, device="meta")).numel())
    except RuntimeError as error:
        raise ModelError(
            expected="images large enough for this architecture",
            got=f"in_shape={in_shape} ({str(error).splitlines()[0]})",
            remedy="Use larger images, or a smaller architecture such as digits_cnn.",
        ) from error


def _dense(layers: Layers, in_shape: Shape, hidden: Sequence[int], classes: int) -> Layers:
    """``layers``, flattened, then fully connected layers with ReLU between them."""
    width = features_of(layers, in_shape)
    layers = [*layers, nn.Flatten()]
    for out in hidden:
        layers += [nn.Linear(width, out), nn.ReLU()]
        width = out
    return [*layers, nn.Linear(width, classes)]


def _conv(cin: int, cout: int, kernel: int, stride: int = 1, padding: int = 0) -> Layers:
    return [nn.Conv2d(cin, cout, kernel, stride, padding), nn.ReLU()]


def _convs(channels: Sequence[int], strides: Sequence[int], kernel: int = 3) -> Layers:
    """Convolutions with ReLU that keep (stride 1) or halve (stride 2) the image."""
    layers: Layers = []
    for cin, cout, stride in zip(channels[:-1], channels[1:], strides, strict=True):
        layers += _conv(cin, cout, kernel, stride, kernel // 2)
    return layers


def fnn_small(in_shape: Shape, classes: int) -> Layers:
    """784-50-32-10, fully connected."""
    return _dense([], in_shape, (50, 32), classes)


def fnn_big(in_shape: Shape, classes: int) -> Layers:
    """784-200-32-10, fully connected."""
    return _dense([], in_shape, (200, 32), classes)


def cnn(in_shape: Shape, classes: int) -> Layers:
    """conv 16 (4×4, stride 2, padding 1), FC 100, FC 10."""
    return _dense(_conv(in_shape[0], 16, 4, 2, 1), in_shape, (100,), classes)


def conv_cifar(in_shape: Shape, classes: int) -> Layers:
    """conv 32-32, pool, conv 64-64, pool (all 3×3 without padding), FC 512, FC 10: 890 410."""
    layers = [*_conv(in_shape[0], 32, 3), *_conv(32, 32, 3), nn.MaxPool2d(2)]
    layers += [*_conv(32, 64, 3), *_conv(64, 64, 3), nn.MaxPool2d(2)]
    return _dense(layers, in_shape, (512,), classes)


def _vgg(plan: Sequence[int], in_shape: Shape, classes: int) -> Layers:
    """VGG with batch norm and one linear layer; ``0`` in the plan is a pooling.

    Pools round up, so that 28×28 images (28-14-7-4-2-1) fit as 32×32 ones do.
    """
    layers: Layers = []
    channels = in_shape[0]
    for width in plan:
        if width == 0:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            continue
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return _dense(layers, in_shape, (), classes)


def vgg16(in_shape: Shape, classes: int) -> Layers:
    """VGG-16 for 32×32 images, with batch norm and a single linear layer of 512 features."""
    plan = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
    return _vgg(plan, in_shape, classes)


def vgg19(in_shape: Shape, classes: int) -> Layers:
    """VGG-19 for 32×32 images, with batch norm and a single linear layer of 512 features."""
    deep = (256,) * 4 + (0,) + (512,) * 4 + (0,) + (512,) * 4 + (0,)
    return _vgg((64, 64, 0, 128, 128, 0, *deep), in_shape, classes)


def vgg_narrow(in_shape: Shape, classes: int) -> Layers:
    """VGG's beginning at a quarter of its width (16-32-64-64), with batch norm and FC 128."""
    layers = _vgg((16, 0, 32, 0, 64, 64, 0), in_shape, classes)[:-2]
    return _dense(layers, in_shape, (128,), classes)


def alexnet(in_shape: Shape, classes: int) -> Layers:
    """AlexNet for 32×32 images: first stride 4, pools of 2, one linear layer of 256 features."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(2, ceil_mode=True)

    layers = [*_conv(in_shape[0], 64, 11, 4, 5), pool(), *_conv(64, 192, 5, 1, 2), pool()]
    layers += [*_convs((192, 384, 256, 256), (1, 1, 1)), pool()]
    return _dense(layers, in_shape, (), classes)


def a5_classifier(in_shape: Shape, classes: int) -> Layers:
    """A5's classifier: conv 3×3 64-64-128 (stride 2)-128-128, FC 512, without batch norm."""
    channels = (in_shape[0], 64, 64, 128, 128, 128)
    return _dense(_convs(channels, (1, 1, 2, 1, 1)), in_shape, (512,), classes)


def a5_font(in_shape: Shape, classes: int) -> Layers:
    """A5's reader of 128×128 letters: conv 5×5 64, 32; conv 3×3 16, 8 (all stride 2), FC 512."""
    layers = _convs((in_shape[0], 64, 32), (2, 2), kernel=5) + _convs((32, 16, 8), (2, 2))
    return _dense(layers, in_shape, (512,), classes)


def a5_small(in_shape: Shape, classes: int) -> Layers:
    """A5 for two cores: conv 16, conv 32 (4×4, stride 2, padding 1), FC 100."""
    layers = _conv(in_shape[0], 16, 4, 2, 1) + _conv(16, 32, 4, 2, 1)
    return _dense(layers, in_shape, (100,), classes)


def a5_medium(in_shape: Shape, classes: int) -> Layers:
    """``a5_small`` with about six times its weights: conv 32, conv 64, FC 300."""
    layers = _conv(in_shape[0], 32, 4, 2, 1) + _conv(32, 64, 4, 2, 1)
    return _dense(layers, in_shape, (300,), classes)


def digits_cnn(in_shape: Shape, classes: int) -> Layers:
    """For the embedded 8×8 digits: conv 16, conv 32 (3×3, second stride 2), FC 64."""
    return _dense(_convs((in_shape[0], 16, 32), (1, 2)), in_shape, (64,), classes)
