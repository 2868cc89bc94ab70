"""Architectures of timm and torchvision, with their input normalisation put inside."""

from __future__ import annotations

import importlib
import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from suture.errors import DependencyError, ModelError, unknown_name
from suture.models.layers import Normalise
from suture.models.messages import first_line
from suture.models.spec import Spec, attach, register_builder

LIBRARIES = ("timm", "torchvision")
PRETRAINED = "pretrained"
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build(
    library: str,
    name: str,
    *,
    in_shape: Sequence[int] | None = None,
    classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    pretrained: bool = False,
    **options: Any,
) -> nn.Module:
    """A classifier by its library's name, untrained unless ``pretrained``.

    Args:
        library: "timm" or "torchvision".
        name: the library's name for the architecture.
        in_shape: ``(c, h, w)``; default: what the library says, else (3, 224, 224).
        classes: default: the library's (1000).
        mean: per channel; default: the library's.
        std: per channel; default: the library's.
        seed: of the initial weights; torch's global random state is not touched.
        pretrained: fetch the library's weights.
        options: more keywords for the library's constructor (JSON-able).

    Raises:
        DependencyError: if the library is not installed.
        ModelError: for an unknown name, or weights that cannot be fetched.
    """
    module = _imported(library)
    if name not in _names(library, module):
        raise ModelError(
            expected=f"an architecture of {library}",
            got=unknown_name("architecture", name, _names(library, module)),
            remedy=f"List them with {library}.{_LISTING[library]}().",
        )
    shape = list(in_shape) if in_shape is not None else None
    made = {"classes": classes, "in_shape": shape, "pretrained": pretrained, **options}
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        net = _make(library, module, name, **made)
    settings = _settings(net, shape, mean, std)
    spec: Spec = {"kind": library, "name": name, "classes": classes, "options": options, **settings}
    normalise = Normalise(settings["mean"], settings["std"])
    model = nn.Sequential(OrderedDict(normalise=normalise, net=net))
    return attach(model, spec).eval()


_LISTING = {"timm": "list_models", "torchvision": "models.list_models"}


def _imported(library: str) -> Any:
    try:
        return importlib.import_module(library if library == "timm" else "torchvision.models")
    except ImportError as error:
        raise DependencyError(
            expected=f"the package {library}",
            got=str(error),
            remedy="Install it: pip install 'suture[timm]'."
            if library == "timm"
            else "Install it: pip install torchvision.",
        ) from error


def _names(library: str, module: Any) -> list[str]:
    if library == "timm":
        return [*module.list_models(), *module.list_models(pretrained=True)]
    return list(module.list_models(module=module))


def _make(library: str, module: Any, name: str, **wanted: Any) -> nn.Module:
    try:
        return _MAKERS[library](module, name, **wanted)
    except Exception as error:
        fetched = wanted["pretrained"]
        raise ModelError(
            expected=f"{library} to build {name}" + (" with its weights" if fetched else ""),
            got=f"{type(error).__name__}: {first_line(error)}",
            remedy="Weights are fetched over the network once; without one, give weights= a file "
            "and classes= what it was trained for."
            if fetched
            else "Check in_shape, classes and the other options.",
        ) from error


def _timm(
    timm: Any,
    name: str,
    *,
    classes: int | None,
    in_shape: list[int] | None,
    pretrained: bool,
    **options: Any,
) -> nn.Module:
    """timm's constructor; ``img_size`` only where the architecture knows it (transformers)."""
    sizes = {} if in_shape is None else {"in_chans": in_shape[0], "img_size": in_shape[1:]}
    count = {} if classes is None else {"num_classes": classes}
    try:
        return timm.create_model(name, pretrained=pretrained, **count, **sizes, **options)
    except TypeError:
        sizes.pop("img_size", None)
        return timm.create_model(name, pretrained=pretrained, **count, **sizes, **options)


def _torchvision(
    models: Any,
    name: str,
    *,
    classes: int | None,
    in_shape: list[int] | None,
    pretrained: bool,
    **options: Any,
) -> nn.Module:
    builder = models.get_model_builder(name)
    count = {} if classes is None else {"num_classes": classes}
    if in_shape is not None and "image_size" in _parameters(name, models):
        count["image_size"] = in_shape[1]
    if in_shape is not None and in_shape[0] != 3:
        raise ValueError(f"torchvision's architectures take 3 channels, not {in_shape[0]}")
    return builder(weights="DEFAULT" if pretrained else None, **count, **options)


def _parameters(name: str, models: Any) -> tuple[str, ...]:
    """``image_size`` is hidden in torchvision's keyword arguments: transformers alone take it."""
    return (
        ("image_size",)
        if name.startswith("vit_")
        else tuple(inspect.signature(models.get_model_builder(name)).parameters)
    )


_MAKERS: dict[str, Callable[..., nn.Module]] = {"timm": _timm, "torchvision": _torchvision}


def _settings(
    net: nn.Module,
    shape: list[int] | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Spec:
    """Image shape, mean and std: as given, else the network's own, else ImageNet's."""
    own = getattr(net, "pretrained_cfg", None) or {}
    shape = shape or [int(v) for v in own.get("input_size", (3, 224, 224))]
    mean = mean or _widened(own.get("mean", _IMAGENET_MEAN), shape[0])
    std = std or _widened(own.get("std", _IMAGENET_STD), shape[0])
    return {"in_shape": shape, "mean": [float(v) for v in mean], "std": [float(v) for v in std]}


def _widened(values: Sequence[float], channels: int) -> Sequence[float]:
    """Colour statistics for another number of channels: their average, for each."""
    return values if len(values) == channels else [sum(values) / len(values)] * channels


def _rebuild(spec: Spec, folder: Path | None) -> nn.Module:
    keys = ("in_shape", "classes", "mean", "std")
    return build(spec["kind"], spec["name"], **{k: spec[k] for k in keys}, **spec["options"])


for _library in LIBRARIES:
    register_builder(_library, _rebuild)
