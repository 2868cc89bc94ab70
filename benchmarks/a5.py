"""A5: what certified training costs over natural training, and a robustifier over its classifier.

``crown-ibp-step`` is a whole step of the method's own loop body (mixed bounds half way of the ramp,
loss, backward, clipping, RMSprop) at conv 16-32, FC 100, batch 100, over a natural step of the
same network, images and optimiser. ``robustifier`` is the paper's MNIST pair at inference, C ∘ R
over C.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import harness
from suture import models
from suture.repairs.a5 import Defence, build_robustifier, defended
from suture.repairs.certified_training.loop import Sample
from suture.repairs.certified_training.method import ClassifierTrainee
from suture.rng import Stream

SHAPE, BATCH, EPS = (1, 28, 28), 100, 0.3
_CLIP, _LR = 8.0, 1e-5


def rows() -> list[harness.Row]:
    """One case each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCH, *SHAPE, generator=generator)
    labels = torch.randint(10, (BATCH,), generator=generator)
    return [_step(images, labels), _robustifier(images)]


def _step(images: torch.Tensor, labels: torch.Tensor) -> harness.Row:
    model = models.build("a5_small", in_shape=SHAPE)
    trainee = ClassifierTrainee(model, SHAPE, EPS)
    sample = Sample(images, labels, torch.arange(BATCH))
    optimiser = torch.optim.RMSprop(model.parameters(), lr=_LR)

    def finish(loss: torch.Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        optimiser.step()

    def ours() -> None:
        finish(trainee.loss(sample, 0.5, 0.5, Stream(0)).loss)

    def natural() -> None:
        finish(F.cross_entropy(model(images), labels))

    return harness.overhead(
        "crown-ibp-step", ours, natural, named="one natural training step", repeats=11
    )


def _robustifier(images: torch.Tensor) -> harness.Row:
    classifier = models.build("a5_classifier", in_shape=SHAPE)
    both = defended(build_robustifier("mnist", SHAPE, Defence(0.3)), classifier)

    def run(model: nn.Module) -> None:
        with torch.no_grad():
            model(images)

    return harness.overhead(
        "robustifier", lambda: run(both), lambda: run(classifier), named="the classifier alone",
        repeats=7,
    )  # fmt: skip
