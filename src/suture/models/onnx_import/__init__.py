"""ONNX files become plain, differentiable PyTorch modules that take any number of images.

The result is an ``nn.Sequential`` of ordinary layers where the network is a chain, else an
``fx.GraphModule``; linear and convolution layers are ``nn.Linear`` and ``nn.Conv2d`` whatever
the file spells them as, so that bounds, cuts and repairs see them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from suture.models.checks import check_weights
from suture.models.onnx_import.graph import Preprocessing, supported, to_module
from suture.models.onnx_import.reading import look_up, parse, read_bytes
from suture.models.spec import Spec, attach, register_builder, spec_file

__all__ = ["import_onnx", "supported"]


def import_onnx(
    path: str | Path,
    *,
    layout: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    in_shape: Sequence[int] | None = None,
) -> nn.Module:
    """The classifier in an ONNX file: images ``(n, c, h, w)`` in [0, 1] to logits, eval mode.

    Args:
        path: the file. If an ``index.json`` beside it names it (with its sha256), the
            pre-processing stated there is used; the arguments below take precedence.
        layout: "chw" or "hwc", of the network's own input, also when it is flat.
        mean: per channel, subtracted from pixels in [0, 1].
        std: per channel, divides after that; ``mean=[0], std=[1/255]`` feeds 0 … 255.
        in_shape: ``(c, h, w)``, needed for a network with a flat input.

    Raises:
        ModelError: if the file is not a valid ONNX classifier, uses an operator that is not
            supported, or its weights are not finite.
    """
    path = Path(path)
    content = read_bytes(path)
    given = _given(layout, mean, std, in_shape)
    told = Preprocessing() if _complete(given) else look_up(path, content) or Preprocessing()
    steps = Preprocessing(
        *(g if g is not None else t for g, t in zip(given, _parts(told), strict=True))
    )
    model = parse(content, path.parent, path.name)
    embedded = model.SerializeToString() if _has_external(content) else content
    return _build(model, steps, embedded)


def _given(layout: Any, mean: Any, std: Any, in_shape: Any) -> tuple[Any, ...]:
    return layout, *(None if v is None else tuple(v) for v in (mean, std, in_shape))


def _parts(steps: Preprocessing) -> tuple[Any, ...]:
    return steps.layout, steps.mean, steps.std, steps.in_shape


def _complete(given: tuple[Any, ...]) -> bool:
    return all(value is not None for value in given[:3])


def _has_external(content: bytes) -> bool:
    return b"location" in content


def _build(model: Any, steps: Preprocessing, content: bytes) -> nn.Module:
    module, settled = to_module(model, steps)
    check_weights(module)
    name = f"onnx-{hashlib.sha256(content).hexdigest()[:16]}.onnx"
    layout, mean, std, shape = _parts(settled)
    spec: Spec = {"kind": "onnx", "file": name, "layout": layout}
    spec |= {"mean": list(mean), "std": list(std), "in_shape": list(shape)}
    return attach(module, spec, {name: content}).eval()


def _rebuild(spec: Spec, folder: Path | None) -> nn.Module:
    content = spec_file(folder, spec["file"])
    model = parse(content, None, spec["file"])
    steps = Preprocessing(*_given(*(spec[k] for k in ("layout", "mean", "std", "in_shape"))))
    return _build(model, steps, content)


register_builder("onnx", _rebuild)
