"""What a network wants done to pixels in [0, 1], where that is not a part of it."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from suture.errors import ArgumentError, ModelError, unknown_name
from suture.models.layers import Normalise
from suture.models.spec import (
    Spec,
    attach,
    build_from_spec,
    carried_shape,
    files_of,
    register_builder,
    spec_of,
)
from suture.types import Batch, RepairedModel, described

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

PRESETS: Mapping[str, Statistics] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "mnist": ((0.1307,), (0.3081,)),
}
"""Name → mean and standard deviation per channel, pixels in [0, 1], as commonly trained with."""
NAMES = ("mean", "std", "range", "preset")


def statistics(
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    range: Sequence[float] | str | None = None,
    preset: str | None = None,
) -> dict[str, tuple[float, ...]]:
    """Mean and std for pixels in [0, 1], out of what was said; only those that follow from it.

    Args:
        mean: what is subtracted, per channel or one for all, in the units of ``range``.
        std: what it is divided by then.
        range: ``(low, high)`` or "low-high", to which pixels in [0, 1] are scaled first.
        preset: a name out of ``PRESETS``, in place of the others.

    Raises:
        ArgumentError: an unknown preset, an empty range, or a preset beside other statistics.
    """
    if preset is not None:
        if any(given is not None for given in (mean, std, range)):
            raise ArgumentError(
                expected="a preset, or mean, std and range",
                got=f"preset {preset!r} beside one of the others",
                remedy="A preset says all three: leave the others out, or the preset.",
            )
        mean, std = _preset(preset)
    if range is None:
        return {k: tuple(v) for k, v in (("mean", mean), ("std", std)) if v is not None}
    low, high = _range(range)
    centre, width = mean or (0.0,), std or (1.0,)
    return {
        "mean": tuple((m - low) / (high - low) for m in centre),
        "std": tuple(s / (high - low) for s in width),
    }


def _preset(name: str) -> Statistics:
    if name not in PRESETS:
        raise ArgumentError(
            expected=f"a preset out of {', '.join(PRESETS)}",
            got=unknown_name("preset", name, tuple(PRESETS)),
            remedy="Or say mean and std themselves.",
        )
    return PRESETS[name]


_NUMBER = r"\s*(-?(?:\d+\.?\d*|\.\d+))\s*"
_RANGE = re.compile(rf"[\[(]?{_NUMBER}(?:-|\.\.|,|:|to){_NUMBER}[\])]?")


def _range(given: Sequence[float] | str) -> tuple[float, float]:
    """``"0-255"``, ``"-1..1"``, ``"0,1"`` or a pair."""
    found = _RANGE.fullmatch(given) if isinstance(given, str) else None
    pair = found.groups() if found else () if isinstance(given, str) else tuple(given)
    try:
        low, high = (float(value) for value in pair)
    except (TypeError, ValueError):
        low = high = 0.0
    if not low < high < float("inf"):
        raise ArgumentError(
            expected="a range of pixel values, low and high",
            got=repr(given),
            remedy="For example 0-255, or -1..1.",
        )
    return low, high


def check_channels(given: Mapping[str, Sequence[float]], channels: int) -> None:
    """Raise ``ArgumentError`` unless mean and std have one value, or one per channel."""
    for name, values in given.items():
        if len(values) not in (1, channels):
            raise ArgumentError(
                expected=f"{name} with one value per channel ({channels}), or one for all",
                got=f"{len(values)} values",
                remedy="Grey images have one channel, colour images three.",
            )


def normalised(
    model: nn.Module, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> nn.Module:
    """The model behind ``(x - mean) / std``; the model itself where both are ``None``.

    Raises:
        ModelError: for what a repair has made, which has its normalisation inside.
    """
    if mean is None and std is None:
        return model
    if isinstance(model, RepairedModel):
        raise ModelError(
            expected="a model that nobody has repaired yet, to put mean and std before it",
            got=f"a {type(model).__name__}",
            remedy="A repair keeps the normalisation of the model that it was given: leave them "
            "out here, and give them to the command that repairs.",
        )
    values = paired(mean, std)
    if (shape := carried_shape(model)) is not None:
        check_channels(dict(zip(("mean", "std"), values, strict=True)), shape[0])
    made = nn.Sequential(OrderedDict(normalise=Normalise(*values), net=model))
    spec: Spec = {"kind": "normalised", "base": spec_of(model)}
    spec |= {"mean": list(values[0]), "std": list(values[1])}
    made.train(model.training)
    return attach(made, spec, files_of(model))


def paired(mean: Sequence[float] | None, std: Sequence[float] | None) -> Statistics:
    """Both, as wide as the wider of the two."""
    both = [tuple(float(v) for v in values) for values in (mean or (0.0,), std or (1.0,))]
    wide = max(map(len, both))
    first, second = (v * wide if len(v) == 1 else v for v in both)
    return first, second


def _rebuild(spec: Spec, folder: Path | None) -> nn.Module:
    return normalised(build_from_spec(spec["base"], folder), spec["mean"], spec["std"])


register_builder("normalised", _rebuild)

_SUSPECT, _RISE = 0.9, 0.15


@torch.no_grad()
def suspicion(model: nn.Module, batch: Batch) -> str:
    """Whether pixels seem to reach the network otherwise than it was trained; a sentence, or "".

    The accuracy on the batch is compared with that behind the batch's own mean and std, behind
    pixels in 0 … 255 and in -1 … 1. Nothing is changed: only the user knows.

    Args:
        model: a classifier in eval mode that gives logits; a randomised one is passed over.
        batch: labelled images, some hundred.
    """
    if described(model).randomised:
        return ""
    plain = _accuracy(model, batch.images, batch.labels)
    if plain >= _SUSPECT:
        return ""
    found = {
        what: _accuracy(model, changed, batch.labels)
        for what, changed in _otherwise(batch.images).items()
    }
    best = max(found, key=lambda what: found[what])
    if found[best] - plain < max(_RISE, 2.5 * _spread(found[best], len(batch))):
        return ""
    return (
        f"clean accuracy rises from {100 * plain:.0f} % to {100 * found[best]:.0f} % (on "
        f"{len(batch)} images) with {best}: is the network's normalisation outside the model? "
        "Nothing was changed; if so, say it with --mean and --std, --range or --preset"
    )


def _accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    guesses = torch.cat([model(piece).argmax(1) for piece in images.split(64)])
    return float((guesses == labels).float().mean())


def _otherwise(images: Tensor) -> dict[str, Tensor]:
    """Each way in words → the images as the network would see them."""
    mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3)).clamp(min=1e-6)
    shown = [",".join(f"{float(v):.4g}" for v in values) for values in (mean, std)]
    own = f"the data's own mean and std (--mean {shown[0]} --std {shown[1]})"
    return {
        own: (images - mean.view(-1, 1, 1)) / std.view(-1, 1, 1),
        "pixels in 0 … 255 (--range 0-255)": images * 255,
        "pixels in -1 … 1 (--range -1..1)": 2 * images - 1,
    }


def _spread(share: float, n: int) -> float:
    """Standard error of an accuracy, at least that of one image."""
    return max(1 / n, float((share * (1 - share) / n) ** 0.5))
