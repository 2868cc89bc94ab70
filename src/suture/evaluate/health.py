"""Signs in the model itself that an attack may be blind (Athalye et al. 2018; Tramèr et al. 2020).

Each finding is one sentence that says what was seen and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from suture.models import looks_like_softmax, untouched
from suture.types import Batch, described, is_randomised

IMAGES = 64


def signs(model: nn.Module, batch: Batch) -> list[str]:
    """What may mislead an attack on this model, found on at most 64 images.

    Looks for outputs that are probabilities, gradients that are missing or zero, answers that
    change from call to call, and optimisation inside the forward pass.
    """
    few = batch[:IMAGES]
    # A model that names stand-ins is attacked through their gradients.
    blind = not described(model).surrogates()
    with untouched(model):
        found = [
            _softmax(model, few.images),
            _gradients(model, few) if blind else None,
            _randomness(model, few.images),
            _optimisation(model, few.images),
        ]
    return [sentence for sentence in found if sentence]


def _softmax(model: nn.Module, images: Tensor) -> str | None:
    if not looks_like_softmax(model, images):
        return None
    return (
        "softmax outputs: the model returns probabilities, and gradients vanish where it is sure. "
        "Remove the softmax; until then trust black-box rows only."
    )


def _gradients(model: nn.Module, batch: Batch) -> str | None:
    images = batch.images.clone().requires_grad_(True)
    remedy = (
        "White-box attacks are blind here. Give the part that blocks gradients a stand-in "
        "(suture.attacks.BPDA), and trust black-box rows until then."
    )
    with torch.enable_grad():
        loss = cross_entropy(model(images), batch.labels, reduction="sum")
        if not loss.requires_grad:
            return f"no gradients: the outputs do not depend differentiably on the image. {remedy}"
        (gradient,) = torch.autograd.grad(loss, images, allow_unused=True)
    if gradient is None:
        return f"no gradients: the outputs do not depend differentiably on the image. {remedy}"
    zero = int((gradient.flatten(1).abs().amax(1) == 0).sum())
    if zero <= len(batch) // 10:
        return None
    return f"zero gradients: {zero} of {len(batch)} images have none at all. {remedy}"


def _randomness(model: nn.Module, images: Tensor) -> str | None:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        differ = not torch.equal(model(images), model(images))
    if is_randomised(model):
        return (
            "randomness: every input draws anew, so single queries mislead. Only rows that "
            "average over draws (EOT), or try every program, measure this defence."
        )
    if differ:
        return (
            "randomness: the same image gets different outputs, but the model does not say how it "
            "draws. Give it forward(images, noise), so that attacks can average over draws."
        )
    return None


def _optimisation(model: nn.Module, images: Tensor) -> str | None:
    with _counting() as calls, torch.no_grad():
        model(images)
    if not calls:
        return None
    return (
        "optimisation at inference: the forward pass computes gradients of its own. Attacks that "
        "do not see through that loop are weak: attack the model it settles on as well."
    )


@contextmanager
def _counting() -> Iterator[list[str]]:
    """Names of the gradient computations that happen inside the block."""
    calls: list[str] = []

    def noting(name: str, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return original(*args, **kwargs)

        return call

    with (
        mock.patch("torch.autograd.grad", noting("grad", torch.autograd.grad)),
        mock.patch("torch.autograd.backward", noting("backward", torch.autograd.backward)),
    ):
        yield calls
