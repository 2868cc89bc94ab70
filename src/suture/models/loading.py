"""A name or a file becomes a classifier in eval mode, and everything about it is checked."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from suture.errors import ArgumentError, ModelError, unknown_name
from suture.models import factory, hub, recognising, zoo
from suture.models.bundle import is_bundle, load_bundle
from suture.models.checks import check_weights
from suture.models.normalising import NAMES as STATISTICS
from suture.models.normalising import check_channels, normalised, statistics
from suture.models.onnx_import import import_onnx
from suture.models.pt2_import import import_pt2
from suture.models.weights import apply_weights, read_weights

_FORMS = "a zoo name, timm:NAME, torchvision:NAME, a .onnx or .pt2 file, a bundle folder, or "
_FORMS += "module:factory"


def load(
    ref: str | Path,
    *,
    weights: str | Path | None = None,
    in_shape: Sequence[int] | None = None,
    classes: int | None = None,
    trust_code: bool = False,
    device: torch.device | str = "cpu",
    **options: Any,
) -> nn.Module:
    """The classifier that ``ref`` names: images ``(n, c, h, w)`` in [0, 1] to logits, eval mode.

    Args:
        ref: a zoo name, "timm:NAME", "torchvision:NAME", a ``.onnx`` or ``.pt2`` file, a bundle
            folder, or "module:factory" (a function that returns an ``nn.Module``).
        weights: a safetensors file or a ``weights_only`` state dict; "pretrained" for timm and
            torchvision. Without weights, named architectures are untrained.
        in_shape: ``(c, h, w)``, where the reference leaves it open.
        classes: number of classes, where the reference leaves it open.
        trust_code: allow "module:factory" to import and run that module.
        device: where to put the model.
        options: mean, std, range and preset as ``wrap`` takes them, for a network whose
            normalisation is outside; and passed on: layout (ONNX), seed (zoo), whatever the
            factory or the library's constructor takes.

    Raises:
        ModelError: if there is no such model, it cannot be read, or its weights do not fit or
            are not finite.
        BundleError: for a damaged bundle.
        DependencyError: if the package that the reference names is not installed.
    """
    shape = None if in_shape is None else zoo.check_shape(in_shape)
    options = _with_statistics(options, shape)
    asked = {"in_shape": shape, "classes": classes}
    open_ = {key: value for key, value in asked.items() if value is not None}
    model = _open(str(ref), {**open_, **options}, weights, trust_code)
    if weights is not None and str(weights) != hub.PRETRAINED:
        apply_weights(model, read_weights(weights))
    check_weights(model)
    return model.to(device).eval()


def _with_statistics(options: dict[str, Any], shape: zoo.Shape | None) -> dict[str, Any]:
    """``range`` and ``preset`` among the options become the mean and std that they mean."""
    told = {name: options[name] for name in STATISTICS if options.get(name) is not None}
    rest = {name: value for name, value in options.items() if name not in STATISTICS}
    given = statistics(**told)
    if shape is not None:
        check_channels(given, shape[0])
    return {**rest, **given}


def _open(
    ref: str, options: dict[str, Any], weights: str | Path | None, trust_code: bool
) -> nn.Module:
    prefix, _, name = ref.partition(":")
    pretrained = str(weights) == hub.PRETRAINED
    if prefix in hub.LIBRARIES and name:
        return hub.build(prefix, name, pretrained=pretrained, **options)
    if pretrained:
        raise ArgumentError(
            expected='weights="pretrained" with timm:NAME or torchvision:NAME',
            got=f"weights='pretrained' with {ref!r}",
            remedy="Give a safetensors file.",
        )
    if ref in zoo.architectures():
        return _called(zoo.build, ref, options)
    path = Path(ref)
    if path.suffix == ".onnx":
        return _called(import_onnx, path, options)
    if path.suffix == ".pt2" or (path.is_file() and recognising.is_program(path)):
        return _called(import_pt2, path, options)
    if path.is_dir() and is_bundle(path):
        given, rest = _parted(options)
        opened = _called(functools.partial(load_bundle, trust_code=trust_code), path, rest)
        return normalised(opened, **given)
    if factory.is_reference(ref) and not path.exists():
        return factory.build(ref, options, trust_code=trust_code)
    raise _unknown(ref, path)


def _parted(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Mean and std, and all other options."""
    given: dict[str, Any] = {name: options[name] for name in ("mean", "std") if name in options}
    return given, {name: value for name, value in options.items() if name not in given}


def _called(opener: Callable[..., nn.Module], ref: Any, options: dict[str, Any]) -> nn.Module:
    """Call an opener; an option it does not take is the user's mistake."""
    fixed = ("trust_code", "device")
    names = (
        p.name for p in inspect.signature(opener).parameters.values() if p.kind == p.KEYWORD_ONLY
    )
    known = [name for name in names if name not in fixed]
    for name in options:
        if name not in known:
            raise ArgumentError(
                expected=f"options out of {', '.join(known) or 'none'} for {ref}",
                got=unknown_name("option", name, tuple(known)),
                remedy="Leave it out or correct its name.",
            )
    return opener(ref, **options)


def _unknown(ref: str, path: Path) -> ModelError:
    if path.is_file():
        got, remedy = recognising.advice(path)
    elif path.exists():
        got, remedy = f"{ref}, a folder without manifest.json", _RUN
    elif path.suffix or len(path.parts) > 1:
        got, remedy = f"{ref}, which is not there", "Check the path: it starts in this folder."
    else:
        got, remedy = unknown_name("model", ref, zoo.architectures()), "Check the name or the path."
    return ModelError(expected=_FORMS, got=got, remedy=remedy)


_RUN = "Name a folder that suture train, repair or suture.save has written."
