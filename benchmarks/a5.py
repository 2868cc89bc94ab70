"""A5: what certified training costs over natural training, and a robustifier over its classifier.

``crown-ibp-step`` is a whole step of the method's own loop body (mixed bounds half way of the ramp,
loss, backward, clipping, RMSprop) at conv 16-32, FC 100, batch 100, over a natural step of the
same network, images and optimiser; ``crown-ibp-step-fused`` the same with the loss bounded as a
whole. ``font-step`` is that of the paper's letter network: 62 classes, three channels, 128×128,
batch 10. ``multiplied``: how many times as much such a step multiplies as the natural one; no code
that does the same products goes below it. ``robustifier`` is the paper's MNIST pair at inference,
C ∘ R over C.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import harness
from suture import models
from suture.repairs.a5 import Defence, build_robustifier, defended
from suture.repairs.certified_training.method import ClassifierTrainee
from suture.repairs.certified_training.trainee import Sample
from suture.rng import Stream

SHAPE, EPS = (1, 28, 28), 0.3
_CLIP, _LR = 8.0, 1e-5


def rows() -> list[harness.Row]:
    """One case each."""
    small = models.build("a5_small", in_shape=SHAPE)
    letters = models.build("a5_font", in_shape=(3, 128, 128), classes=62)
    return [
        _step("crown-ibp-step", small, _sample(100, SHAPE, 10), repeats=11),
        _step("crown-ibp-step-fused", small, _sample(100, SHAPE, 10), fusion=True, repeats=11),
        _step("font-step", letters, _sample(10, (3, 128, 128), 62)),
        _robustifier(_sample(100, SHAPE, 10).images),
    ]


def _sample(count: int, shape: tuple[int, int, int], classes: int) -> Sample:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, *shape, generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    return Sample(images, labels, torch.arange(count))


def _step(
    case: str, model: nn.Module, sample: Sample, *, fusion: bool | None = None, repeats: int = 5
) -> harness.Row:
    shape = tuple(sample.images.shape[1:])
    trainee = ClassifierTrainee(model, shape, EPS, fusion)
    optimiser = torch.optim.RMSprop(model.parameters(), lr=_LR)

    def finish(loss: torch.Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        optimiser.step()

    def ours() -> None:
        finish(trainee.loss(sample, 0.5, 0.5, Stream(0)).loss)

    def natural() -> None:
        finish(F.cross_entropy(model(sample.images), sample.labels))

    row = harness.overhead(case, ours, natural, named="one natural training step", repeats=repeats)
    return row | {"multiplied": round(_products(ours) / _products(natural), 2)}


def _products(work: Callable[[], None]) -> int:
    """Multiply-adds of matrix products and convolutions, counted by torch."""
    with FlopCounterMode(display=False) as counted:
        work()
    return counted.get_total_flops()


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
