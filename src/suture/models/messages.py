"""Other people's errors, shortened or told in words that say what to do."""

from __future__ import annotations

import re

from torch import Tensor, nn

from suture.models.spec import carried_shape

_PRODUCT = re.compile(r"shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)")
_CHANNELS = re.compile(r"to have (\d+) channels, but got (\d+) channels")
_COLOURS = {1: "grey", 3: "colour"}


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def misfit(model: nn.Module, images: Tensor, error: BaseException) -> str:
    """Why a model cannot take these images ``(n, c, h, w)``, as far as it can be told."""
    made_for, text = carried_shape(model), str(error)
    if made_for is not None and tuple(made_for) != tuple(images.shape[1:]):
        return f"a model made for {_axes(made_for)}"
    if channels := _CHANNELS.search(text):
        wanted, given = (int(count) for count in channels.groups())
        own = ": " + " for ".join(_COLOURS[c] for c in (wanted, given)) if _both(channels) else ""
        return f"a layer for {wanted} channels where {given} come{own}"
    if product := _PRODUCT.search(text):
        return (
            f"a linear layer for {product[2]} values where {product[1]} come: it was made for "
            "images of another size"
        )
    if "Kernel size can't be greater" in text or "too small" in text:
        return "layers for larger images"
    return f"a forward that fails ({type(error).__name__}: {first_line(error)})"


def _both(channels: re.Match[str]) -> bool:
    return all(int(count) in _COLOURS for count in channels.groups())


def remedy(model: nn.Module, images: Tensor) -> str:
    """What to do about images of another shape."""
    made_for = carried_shape(model)
    if made_for is not None and made_for[0] != images.shape[1]:
        other = "grey" if made_for[0] == 1 else "colour" if made_for[0] == 3 else "other"
        return f"Give {other} images ({made_for[0]} channels), or another model."
    if made_for is not None:
        return (
            f"Resize the images to {made_for[1]}x{made_for[2]} (--size, for a folder of "
            "pictures), or give the data that the model was made for."
        )
    return (
        "Give the data that the model was made for, or build the model for these images: "
        "in_shape=(c, h, w)."
    )


def _axes(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"
