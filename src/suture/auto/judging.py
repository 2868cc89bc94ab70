"""One judge for all candidates: the adaptive attacker, on training images that none has seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from suture.attacks import PGD, Attack, SparseRS
from suture.certify import certify_images
from suture.errors import ModelError
from suture.evaluate.left import Left, what_is_left
from suture.evaluate.tiers import Tier
from suture.repairs import Context
from suture.types import Batch, LabelledImages, Norm, is_randomised

LEAST, PASSES = 50, 400
"""Images judged at least; forwards with backwards that the quick tier spends on one, about."""
SHARE = 0.15
"""Of the time: for all judgements together."""
PATIENCE = 20.0
"""Seconds that bounds of one candidate may take."""
SURE = 1.645
"""Standard errors by which a candidate must beat the given model: one-sided, 95 %."""


@dataclass(frozen=True)
class Judgement:
    """What a candidate is worth on the held-out images.

    Attributes:
        n: images.
        clean: right unattacked, in expectation over the draws.
        robust: right under the strongest attack on each.
        certified: proved by CROWN-IBP on the whole ball; ``None`` where that says nothing.
        forward: seconds of a forward, in those of the given model.
        sure: whether more are right than of the given model, beyond chance.
    """

    n: int
    clean: float
    robust: float
    certified: int | None
    forward: float
    sure: bool


class Jury:
    """Held-out images, an attacker, and what he leaves of the given model.

    Args:
        given: the model to be repaired.
        batch: the images.
        norm, eps: of the attacker.
        tier: how much he tries.
        context: random numbers, and who does the work.

    Attributes:
        seconds: that the given model's judgement took.
    """

    def __init__(
        self, given: nn.Module, batch: Batch, norm: Norm, eps: float, tier: Tier, context: Context
    ) -> None:
        self.given, self.batch, self.norm, self.eps, self.tier = given, batch, norm, eps, tier
        self._context = context
        began = time.perf_counter()
        self._before = self._left(given, None)
        self.seconds = time.perf_counter() - began

    def __call__(self, model: nn.Module) -> Judgement:
        """Of a model, in eval mode."""
        left = self._before if model is self.given else self._left(model, self._before)
        return Judgement(
            n=left.n,
            clean=left.clean,
            robust=left.right,
            certified=self._certified(model),
            forward=round(_seconds(model, self.batch) / _seconds(self.given, self.batch), 2),
            sure=better(left.share, self._before.share),
        )

    def _left(self, model: nn.Module, before: Left | None) -> Left:
        return what_is_left(
            model,
            self.batch,
            self._attack(),
            undefended=self.given,
            before=before,
            tier=self.tier,
            seed=self._context.stream.key & 0x7FFFFFFF,
            batch_size=self._context.batch_size,
            engine=self._context.engine,
        )

    def _attack(self) -> Attack:
        if self.norm == "l0":
            return SparseRS(eps=self.eps, queries=self.tier.queries)
        return PGD(norm=self.norm, eps=self.eps, steps=self.tier.steps)

    def _certified(self, model: nn.Module) -> int | None:
        """Where the bound is cheap: for a large network it would say nothing, and cost much."""
        if self.norm != "linf" or is_randomised(model):
            return None
        try:
            spent = _timed(lambda: certify_images(model, self.batch[:2], self.eps, "crown-ibp"))
            if spent * len(self.batch) > 2 * PATIENCE:
                return None
            found = certify_images(model, self.batch, self.eps, "crown-ibp")
        except ModelError:
            return None
        return int(found.certified.sum())


def better(share: Tensor, before: Tensor) -> bool:
    """Whether the mean of paired shares has grown by more than chance, one-sided at 95 %."""
    change = (share - before).double()
    return float(change.sum()) > SURE * float(change.square().sum().sqrt())


def per_image(model: nn.Module, data: LabelledImages) -> float:
    """Seconds of a forward with its backward, an image: the least of three."""
    images = data[:LEAST].images.clone().requires_grad_(True)

    def step() -> None:
        with torch.enable_grad():
            torch.autograd.grad(model(images).sum(), images)

    step()
    return min(_timed(step) for _ in range(3)) / len(images)


def shortened(tier: Tier, one: float, seconds: float) -> Tier:
    """The attacker, with fewer steps where not even ``LEAST`` images could meet all of his.

    Args:
        one, seconds: as for ``affordable``.
    """
    share = seconds / (PASSES * one * LEAST)
    if share >= 1:
        return tier
    steps, queries = max(5, int(share * tier.steps)), max(20, int(share * tier.queries))
    return replace(tier, name=f"{tier.name}, shortened", steps=steps, queries=queries, restarts=1)


def affordable(one: float, seconds: float, most: int) -> int:
    """How many images a judgement can have in so many seconds, at least ``LEAST``.

    Args:
        one: seconds of a forward with its backward, an image.
    """
    return max(min(LEAST, most), min(most, int(seconds / (PASSES * one))))


def _seconds(model: nn.Module, batch: Batch) -> float:
    some = batch.images[:64]

    def ask() -> None:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(some)

    ask()
    return min(_timed(ask) for _ in range(5))


def _timed(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before
