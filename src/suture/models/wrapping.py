"""Somebody's own network becomes a classifier that can be saved and opened again without its code.

It is exported by ``torch.export`` and read back as data, so that what is attacked, repaired and
measured here is what a bundle gives back elsewhere.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from suture.errors import ArgumentError, ModelError
from suture.models.checks import check_weights, untouched
from suture.models.deploying import pt2_bytes
from suture.models.messages import first_line, misfit
from suture.models.normalising import check_channels, normalised, statistics
from suture.models.pt2_import import from_bytes
from suture.models.spec import carried_shape
from suture.models.zoo import check_shape
from suture.rng import Stream

_TOLERANCE = 1e-4
_COUNTS = (1, 5)


def wrap(
    net: nn.Module,
    *,
    in_shape: Sequence[int] | None = None,
    classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    range: Sequence[float] | str | None = None,
    preset: str | None = None,
) -> nn.Module:
    """Any network as a classifier: images ``(n, c, h, w)`` in [0, 1] to logits, in eval mode.

    ``suture.save`` keeps it and ``suture.load`` opens it again without the network's code: its
    graph is taken by ``torch.export``, in eval mode (batch norm and dropout stay as they are there
    whatever trains it later). That graph must give the network's own logits on random images.

    Args:
        net: returns logits ``(n, classes)``, or something with these as ``logits``; not changed.
        in_shape: ``(c, h, w)``; may be left out where the network tells it, as timm's do.
        classes: how many there must be.
        mean: what the network wants subtracted from its pixels, per channel or one for all.
        std: what it wants them divided by then.
        range: to which pixels in [0, 1] are scaled before that, as "0-255".
        preset: "imagenet", "cifar10" or "mnist", in place of the three.

    Raises:
        ArgumentError: no ``in_shape``, or statistics that make no sense.
        ModelError: the network does not take such images, gives no logits, cannot be exported, or
            its graph gives others.

    >>> import suture, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    >>> model = suture.wrap(net, in_shape=(1, 8, 8), mean=(0.5,), std=(0.5,))
    """
    given = statistics(mean=mean, std=std, range=range, preset=preset)
    if getattr(net, "suture_spec", None) is not None:
        return normalised(net, **given) if given else net
    shape = _shape(net, in_shape)
    check_channels(given, shape[0])
    check_weights(net)
    twin = _with_logits(_copied(net), shape, classes)
    content = pt2_bytes(twin, shape)
    _check_same(twin, from_bytes(content), shape)
    return from_bytes(content, **given).to(_device(net))


def _shape(net: nn.Module, in_shape: Sequence[int] | None) -> tuple[int, int, int]:
    found = in_shape if in_shape is not None else carried_shape(net)
    if found is None:
        raise ArgumentError(
            expected="in_shape=(channels, height, width), the images that the network takes",
            got=f"none with a {type(net).__name__}",
            remedy="For MNIST use (1, 28, 28), for CIFAR-10 (3, 32, 32).",
        )
    return check_shape(tuple(found))


def _copied(net: nn.Module) -> nn.Module:
    """A copy on the CPU, in eval mode and float32."""
    try:
        return copy.deepcopy(net).cpu().float().eval()
    except Exception as error:
        raise ModelError(
            expected="a network that can be copied",
            got=f"{type(error).__name__}: {first_line(error)}",
            remedy="Take tensors with a history out of its attributes (tensor.detach()).",
        ) from error


class LogitsOnly(nn.Module):
    """A network whose output has the logits as a part, reduced to them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(n, c, h, w)`` to logits."""
        return _part(self.net(images))  # type: ignore[return-value]


def _part(found: Any) -> Any:
    """The logits of an output that holds them by that name."""
    own = found.get("logits") if isinstance(found, dict) else getattr(found, "logits", None)
    return own if isinstance(own, Tensor) else found


def _with_logits(net: nn.Module, shape: tuple[int, ...], classes: int | None) -> nn.Module:
    """The network, reduced to its logits where these are a part of its output."""
    found = _answer(net, _images(2, shape))
    logits = found if isinstance(found, Tensor) else _part(found)
    told = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(found).__name__
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 2:
        raise ModelError(
            expected="logits of shape (n, classes) from the network, or an output with .logits",
            got=f"{told} for 2 images of shape {tuple(shape)}",
            remedy="Give a module whose forward returns one row of scores per image.",
        )
    if classes is not None and logits.shape[1] != classes:
        raise ModelError(
            expected=f"{classes} classes",
            got=f"{logits.shape[1]} logits per image",
            remedy="Correct classes=, or the network's last layer.",
        )
    return net if isinstance(found, Tensor) else LogitsOnly(net)


def _answer(net: nn.Module, images: Tensor, seed: int = 0) -> Any:
    try:
        with untouched(net), torch.no_grad():
            torch.default_generator.manual_seed(seed)
            return net(images)
    except Exception as error:
        raise ModelError(
            expected=f"a network that takes float32 images of shape (n, {_axes(images)})",
            got=misfit(net, images, error),
            remedy="Correct in_shape=(c, h, w); flat inputs need a flattening layer first.",
        ) from error


def _axes(images: Tensor) -> str:
    return ", ".join(str(size) for size in images.shape[1:])


def _images(n: int, shape: tuple[int, ...]) -> Tensor:
    return torch.rand(n, *shape, generator=Stream(n).child("wrap").generator())


def _check_same(net: nn.Module, again: nn.Module, shape: tuple[int, ...]) -> None:
    """The graph that was read back gives the network's logits, for one image and for several."""
    for n in _COUNTS:
        images = _images(n, shape)
        wanted, found = _answer(net, images), _answer(again, images, seed=1)
        scale = 1 + float(wanted.abs().max())
        away = float((wanted - found).abs().max()) / scale
        if not away <= _TOLERANCE:
            raise ModelError(
                expected="the exported network to give the network's own logits",
                got=f"logits that are {away:.2g} of their size away",
                remedy="Its forward draws at random or depends on more than its images: hand it "
                "over as module:factory with trust_code=True.",
            )


def _device(net: nn.Module) -> torch.device:
    return next((t.device for t in (*net.parameters(), *net.buffers())), torch.device("cpu"))
