"""The papers' architectures by name, input normalisation inside, untrained.

``build("cnn")`` is what the paper describes; ``in_shape`` and ``classes`` change the task.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from suture.errors import ArgumentError, ModelError, unknown_name
from suture.models.layers import Normalise
from suture.models.spec import Spec, attach, register_builder
from suture.models.zoo import plain, residual

Shape = tuple[int, int, int]
MNIST, CIFAR, DIGITS, FONT = (1, 28, 28), (3, 32, 32), (1, 8, 8), (1, 128, 128)

# Channel statistics of CIFAR-10 and MNIST: what training from scratch likes best.
_STATISTICS = {
    3: ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    1: ((0.1307,), (0.3081,)),
}


@dataclass(frozen=True)
class Architecture:
    """A name's maker, with the input shape and number of classes that the name implies."""

    make: Callable[[Shape, int], list[nn.Module] | OrderedDict[str, nn.Module]]
    in_shape: Shape
    classes: int = 10


_ZOO = {
    "fnn_small": Architecture(plain.fnn_small, MNIST),
    "fnn_big": Architecture(plain.fnn_big, MNIST),
    "cnn": Architecture(plain.cnn, MNIST),
    "conv_cifar": Architecture(plain.conv_cifar, CIFAR),
    "vgg16": Architecture(plain.vgg16, CIFAR),
    "vgg19": Architecture(plain.vgg19, CIFAR),
    "vgg_narrow": Architecture(plain.vgg_narrow, CIFAR),
    "alexnet": Architecture(plain.alexnet, CIFAR),
    "resnet18": Architecture(residual.resnet18, CIFAR),
    "wrn28_4": Architecture(residual.wrn28_4, CIFAR),
    "a5_classifier": Architecture(plain.a5_classifier, CIFAR),
    "a5_font": Architecture(plain.a5_font, FONT, 62),
    "a5_small": Architecture(plain.a5_small, MNIST),
    "a5_medium": Architecture(plain.a5_medium, MNIST),
    "digits_cnn": Architecture(plain.digits_cnn, DIGITS),
}


def architectures() -> tuple[str, ...]:
    """All names that ``build`` knows."""
    return tuple(_ZOO)


def describe(name: str) -> str:
    """One line on an architecture.

    Raises:
        ModelError: for an unknown name.
    """
    return (_find(name).make.__doc__ or "").splitlines()[0]


def _find(name: str) -> Architecture:
    if name not in _ZOO:
        raise ModelError(
            expected=f"an architecture out of {', '.join(_ZOO)}",
            got=unknown_name("architecture", name, architectures()),
            remedy="Pick one of these, or load timm:NAME, torchvision:NAME or a file.",
        )
    return _ZOO[name]


def build(
    name: str,
    *,
    in_shape: Sequence[int] | None = None,
    classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
) -> nn.Module:
    """An untrained classifier ``(n, c, h, w)`` in [0, 1] to logits ``(n, classes)``, in eval mode.

    Args:
        name: one of ``architectures()``.
        in_shape: ``(c, h, w)``; default: what the name implies.
        classes: number of classes; default: what the name implies.
        mean: per channel; default: CIFAR-10's for three channels, MNIST's for one, else 0.5.
        std: per channel; default as ``mean``.
        seed: of the initial weights; torch's global random state is not touched.

    Raises:
        ModelError: for an unknown name, or images too small for it.
        ArgumentError: for a malformed shape, class count, mean or std.
    """
    kind = _find(name)
    shape = check_shape(in_shape if in_shape is not None else kind.in_shape)
    count = check_count(classes if classes is not None else kind.classes)
    default_mean, default_std = _STATISTICS.get(shape[0], ((0.5,) * shape[0],) * 2)
    mean = [float(v) for v in (mean if mean is not None else default_mean)]
    std = [float(v) for v in (std if std is not None else default_std)]
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        made = kind.make(shape, count)
    module = _assemble(Normalise(_wide(mean, shape), _wide(std, shape)), made)
    spec: Spec = {"kind": "zoo", "name": name, "in_shape": list(shape), "classes": count}
    return attach(module, {**spec, "mean": mean, "std": std}).eval()


def _wide(values: Sequence[float], shape: Shape) -> list[float]:
    """One value per channel from one value for all."""
    return list(values) * shape[0] if len(values) == 1 else list(values)


def _assemble(
    normalise: nn.Module, made: list[nn.Module] | OrderedDict[str, nn.Module]
) -> nn.Sequential:
    if isinstance(made, OrderedDict):
        return nn.Sequential(OrderedDict([("normalise", normalise), *made.items()]))
    return nn.Sequential(normalise, *made)


def check_shape(shape: Sequence[int]) -> Shape:
    """``(c, h, w)`` as positive integers, or an ``ArgumentError``."""
    sizes = tuple(shape) if isinstance(shape, Sequence) else ()
    if len(sizes) != 3 or not all(isinstance(s, int) and 0 < s < 1 << 16 for s in sizes):
        raise ArgumentError(
            expected="in_shape=(channels, height, width), three positive integers",
            got=f"in_shape={shape!r}",
            remedy="For MNIST use (1, 28, 28), for CIFAR-10 (3, 32, 32).",
        )
    return sizes  # type: ignore[return-value]


def check_count(classes: int) -> int:
    """The number of classes, at least 2, or an ``ArgumentError``."""
    if not isinstance(classes, int) or not 2 <= classes < 1 << 20:
        raise ArgumentError(
            expected="classes as an integer of at least 2",
            got=f"classes={classes!r}",
            remedy="Count the classes of the data set, for example classes=10.",
        )
    return classes


def _rebuild(spec: Spec, folder: Path | None) -> nn.Module:
    keys = ("in_shape", "classes", "mean", "std")
    return build(spec["name"], **{key: spec[key] for key in keys})


register_builder("zoo", _rebuild)
