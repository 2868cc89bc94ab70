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

from suture.evaluate.slopes import misled, slopes
from suture.models import looks_like_softmax, untouched
from suture.rng import Stream, bits, image_keys
from suture.types import Batch, LabelledImages, described, is_randomised

IMAGES = 64
CALLS = 64
"""A draw that changes one call in twenty goes unseen in that many with probability 0.04."""


def signs(model: nn.Module, batch: LabelledImages, step: float = 8 / 255) -> list[str]:
    """What may mislead an attack on this model, found on at most 64 images.

    Looks for outputs that are probabilities or classes alone, gradients that are missing, zero
    or do not point uphill, answers that change from call to call, and optimisation inside the
    forward pass.

    Args:
        model: classifier.
        batch: images with their true classes.
        step: L∞ length of a step of the attack's order.
    """
    few = batch[:IMAGES]
    with untouched(model):
        found = [
            _scores(model, few.images),
            *_blindness(model, few, step),
            _randomness(model, few.images),
            _optimisation(model, few.images),
        ]
    return [sentence for sentence in found if sentence]


def _blindness(model: nn.Module, batch: Batch, step: float) -> list[str | None]:
    """What is wrong with the gradients, unless those of a stand-in that the model names lead on."""
    found = [_gradients(model, batch), _misleading(model, batch, step)]
    if any(found):
        for stand_in in described(model).surrogates().values():
            tried, wrong = misled(model, batch, step, slopes(stand_in, batch))
            if tried and wrong <= tried // 4:
                return []
    return found


def _scores(model: nn.Module, images: Tensor) -> str | None:
    """Outputs that hide the scores a search goes by."""
    with torch.no_grad():
        ranked = model(images).sort(1).values
    if len(images) > 1 and bool((ranked == ranked[0]).all()):
        return (
            "one-hot outputs: every image gets the same scores in another order, so the model "
            "tells its class alone, and neither gradients nor searches by score see a way. "
            "Evaluate the model before its argmax; until then trust no row."
        )
    if not looks_like_softmax(model, images):
        return None
    return (
        "softmax outputs: the model returns probabilities, and gradients vanish where it is sure. "
        "Remove the softmax; until then trust black-box rows only."
    )


def _gradients(model: nn.Module, batch: Batch) -> str | None:
    remedy = (
        "White-box attacks are blind here. Give the part that blocks gradients a stand-in "
        "(suture.attacks.BPDA), and trust black-box rows until then."
    )
    images = batch.images.clone().requires_grad_(True)
    with torch.enable_grad():
        loss = cross_entropy(model(images), batch.labels, reduction="sum")
        gradient = None
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss, images, allow_unused=True)
    if gradient is None:
        return f"no gradients: the outputs do not depend differentiably on the image. {remedy}"
    zero = gradient.flatten(1).abs().amax(1) == 0
    if int(zero.sum()) <= len(batch) // 10:
        return None
    found = f"{int(zero.sum())} of {len(batch)} images"
    if bool((slopes(model, batch).flatten(1).abs().amax(1) > 0)[zero].all()):
        return (
            f"zero gradients: on {found} the logits are so far apart that the cross entropy "
            "underflows. Divide the logits by a temperature, or trust only attacks that raise the "
            'margin (PGD with loss="margin" or "spread", APGD with loss="dlr").'
        )
    return f"zero gradients: {found} have none at all. {remedy}"


def _misleading(model: nn.Module, batch: Batch, step: float) -> str | None:
    tried, wrong = misled(model, batch, step)
    if wrong <= tried // 4:
        return None
    return (
        f"misleading gradients: on {wrong} of {tried} images a step along the gradient does no "
        "more harm than one in a random direction. Give the part that spoils them a stand-in "
        "(suture.attacks.BPDA), and trust black-box rows until then."
    )


def _randomness(model: nn.Module, images: Tensor) -> str | None:
    if is_randomised(model):
        if not _changes(model, images, noise=bits(image_keys(images, Stream(0)), 0)):
            return (
                "randomness: every input draws anew, so single queries mislead. Only rows that "
                "average over draws (EOT), or try every program, measure this defence."
            )
        return (
            "hidden randomness: the same image gets different outputs under the same noise, so "
            "the model draws more than it says. Let forward(images, noise) decide every draw by "
            "its noise; until then averages over draws mislead."
        )
    if _changes(model, images):
        return (
            "randomness: the same image gets different outputs, but the model does not say how it "
            "draws. Give it forward(images, noise), so that attacks can average over draws."
        )
    return None


@torch.no_grad()
def _changes(model: nn.Module, images: Tensor, noise: Tensor | None = None) -> bool:
    """Whether any of many calls answers otherwise; of all images a few, of one image most."""
    for some, calls in ((slice(None), 4), (slice(1), CALLS)):
        given = {} if noise is None else {"noise": noise[some]}
        first = model(images[some], **given)
        if any(_differ(first, model(images[some], **given)) for _ in range(calls)):
            return True
    return False


def _differ(one: Tensor, other: Tensor) -> bool:
    """Beyond what sums in another order do, as some devices take them."""
    hair = 1e-5 * float(one.abs().amax())
    return bool(((one - other).abs() > hair).any() | (one.argmax(1) != other.argmax(1)).any())


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
