"""Is this a classifier: one cheap forward, finite weights, and a fingerprint."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from suture.errors import ModelError
from suture.models.messages import misfit, remedy
from suture.types import Batch, check_classes


def check_classifier(model: nn.Module, batch: Batch) -> int:
    """The number of classes, after a forward of one image in eval mode.

    Neither the random state nor the model's train/eval modes change.

    Raises:
        ModelError: if the images do not fit, or the output is not ``(n, classes)`` finite logits.
        DataError: if a label is not below the number of classes.
    """
    logits = _forward(model, batch.images[:1])
    _check_logits(logits, 1)
    classes = int(logits.shape[1])
    check_classes(batch.labels, classes)
    return classes


def _forward(model: nn.Module, images: Tensor) -> Tensor:
    try:
        with untouched(model), torch.no_grad():
            return model(images)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ModelError(
            expected=f"a model that takes images of shape (n, {_axes(images)})",
            got=misfit(model, images, error),
            remedy=remedy(model, images),
        ) from error


def _axes(images: Tensor) -> str:
    return ", ".join(str(size) for size in images.shape[1:])


def _check_logits(logits: object, count: int) -> None:
    if not isinstance(logits, Tensor):
        got = type(logits).__name__
    elif logits.ndim != 2 or len(logits) != count or logits.shape[1] < 2:
        got = f"shape {tuple(logits.shape)} for {count} image{'s' * (count > 1)}"
    elif not logits.is_floating_point() or not bool(torch.isfinite(logits).all()):
        got = f"{logits.dtype} with NaN or infinite values"
    else:
        return
    raise ModelError(
        expected="finite logits of shape (n, classes) with at least two classes",
        got=got,
        remedy="Wrap the model so that forward returns one finite row of scores per image.",
    )


@contextlib.contextmanager
def untouched(*models: nn.Module | None) -> Iterator[None]:
    """Eval mode inside; afterwards every module's mode and the random state are as before."""
    given = [model for model in models if model is not None]
    modes = [(module, module.training) for model in given for module in model.modules()]
    devices = sorted({p.device.index or 0 for m in given for p in m.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices=devices):
        try:
            for module, _ in modes:
                module.training = False
            yield
        finally:
            for module, mode in modes:
                module.training = mode


@contextlib.contextmanager
def frozen(*models: nn.Module | None) -> Iterator[None]:
    """Inside, no parameter wants a gradient; those that did want them again afterwards.

    Threads may overlap: each gives back what it found wanting gradients. At worst a parameter
    wants them again while another thread is still at work, which costs time and changes nothing.
    """
    every = (p for model in models if model is not None for p in model.parameters())
    held = [p for p in every if p.requires_grad and p.is_leaf]
    try:
        for parameter in held:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


def looks_like_softmax(model: nn.Module, images: Tensor) -> bool:
    """Whether the outputs are probabilities (rows of non-negative numbers that sum to 1 ± 1e-4).

    Attacks and bounds want logits: gradients through a softmax vanish where it saturates.
    """
    outputs = _forward(model, images)
    rows = outputs.sum(1) - 1
    return bool((outputs >= 0).all()) and bool((rows.abs() < 1e-4).all())


def check_weights(model: nn.Module) -> None:
    """Raise ``ModelError`` naming the first layer with a NaN, or an infinite parameter.

    Constants may be infinite: attention masks are.
    """
    parameters = {name for name, _ in model.named_parameters()}
    for name, tensor in model.state_dict().items():
        broken = bool(tensor.isnan().any()) if tensor.is_floating_point() else False
        if broken or (name in parameters and bool(tensor.isinf().any())):
            kind = "NaN" if broken else "infinite weight"
            layer, _, part = name.rpartition(".")
            raise ModelError(
                expected="finite weights",
                got=f"{kind} in layer {layer or part!r} ({part})",
                remedy="The training diverged or the file is damaged; use an earlier checkpoint.",
            )


def fingerprint(model: nn.Module) -> str:
    """sha256 (hex) over the sorted names, dtypes, shapes and bytes of the state dict."""
    digest = hashlib.sha256()
    state = model.state_dict()
    for name in sorted(state):
        tensor = state[name].detach().cpu().clone(memory_format=torch.contiguous_format)
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
