"""What the three methods of smoothing share, and randomised smoothing itself."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from suture.certify.smoothing import Gaussian, RandomCopies
from suture.errors import require
from suture.models import attach, files_of, spec_of
from suture.repairs.adversarial_training.rates import Course
from suture.repairs.base import REPAIRS, Repair
from suture.repairs.context import Context
from suture.repairs.result import RepairResult, Status
from suture.repairs.smoothing.noise_training import NoiseTraining
from suture.repairs.smoothing.smoothed import smoothed
from suture.training.config import Augment
from suture.types import LabelledImages


@dataclass(frozen=True, kw_only=True)
class VotingRepair(Repair):
    """Answer by vote over noisy copies, after training on noisy copies.

    Args:
        votes: noisy copies of an image that a forward counts; certificates count n of their own.
        n0: copies that choose the class that is certified.
        n: copies that bound its share.
        alpha: chance that an image's certificate is wrong.
        epochs: passes over the training images; 0 trains nothing.
        lr: largest learning rate.
        optimiser: "adam", or "sgd" (momentum 0.9).
        schedule: how the rate goes: "one-cycle", "cosine", "step" or "constant".
        step_images: images per step.
        average: decay per step of the exponential moving average of the weights; 0 for none.
        augment: "flip-crop" (CIFAR-10), "crop-rotate" (MNIST) or "none".
        held_out: share of the training images that judges the last epochs, by noisy copies.
        samples: images used, at most; ``None`` for all.

    Raises:
        ArgumentError: a value out of range.
    """

    votes: int = 32
    n0: int = 100
    n: int = 100_000
    alpha: float = 0.001
    epochs: int = 10
    lr: float = 3e-3
    optimiser: Literal["adam", "sgd"] = "adam"
    schedule: Course = "one-cycle"
    step_images: int = 256
    average: float = 0.995
    augment: Augment = "none"
    held_out: float = 0.05
    samples: int | None = None

    def __post_init__(self) -> None:
        require(self._checks(), self, "See the guide on randomised smoothing.")

    def _checks(self) -> dict[str, bool]:
        """What must hold, in words; what training asks for is checked by it."""
        return {
            "votes, n0, n >= 1": min(self.votes, self.n0, self.n) >= 1,
            "0 < alpha < 1": 0 < self.alpha < 1,
            "epochs >= 0": self.epochs >= 0,
            "0 < lr < inf": 0 < self.lr < math.inf,
        }

    @property
    @abstractmethod
    def kind(self) -> RandomCopies:
        """The noise."""

    def training(self, **more: Any) -> NoiseTraining:
        """The training that its fields ask for, at least one epoch long."""
        return NoiseTraining(**self.trained(), **more)

    def trained(self) -> dict[str, Any]:
        """Fields of the training."""
        own = ("lr", "optimiser", "schedule", "step_images", "average", "augment", "held_out")
        given = {name: getattr(self, name) for name in (*own, "samples")}
        return given | {"epochs": max(1, self.epochs), "kind": self.kind}

    def finished(self, base: nn.Module, trace: dict[str, Any]) -> RepairResult:
        """The result that votes with this base."""
        model = smoothed(base, self.kind, self.votes, self.n0, self.n, self.alpha)
        return RepairResult(model, Status.SMOOTHED, {"noise": self.kind.facts, **trace})


@REPAIRS.add("smoothing")
@dataclass(frozen=True, kw_only=True)
class Smoothing(VotingRepair):
    """Randomised smoothing (Cohen, Rosenfeld & Kolter 2019, arXiv:1902.02918).

    ``g(x) = argmax_c P[f(x + ε) = c]``, ε normal with deviation σ. If the winner has a share of at
    least p > 1/2, g answers the same in the L2 ball of radius ``σ Φ⁻¹(p)``: ``suture certify``
    bounds p by counting. Before, the given network learns on noisy copies of its training images;
    one that has never seen noise is not worth smoothing.

    Args:
        sigma: σ, pixel values in [0, 1].
    """

    sigma: float = 0.25

    def _checks(self) -> dict[str, bool]:
        return super()._checks() | {"0 < sigma < inf": 0 < self.sigma < math.inf}

    @property
    def kind(self) -> Gaussian:
        """Gaussian noise."""
        return Gaussian(self.sigma)

    @property
    def threat(self) -> dict[str, Any]:
        """The norm of its certificates; their radius is each image's own."""
        return {"norm": "l2", "eps": self.sigma}

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        if not self.epochs:
            return self.finished(copied(model), {"epochs": 0})
        trained = self.training()._repair(model, data, context)
        return self.finished(described_as(trained.model, model), trained.trace)


def copied(model: nn.Module) -> nn.Module:
    """A copy of the given network that can be a part of another one."""
    return described_as(copy.deepcopy(model), model)


def described_as(made: nn.Module, given: nn.Module) -> nn.Module:
    """Hang the given network's spec on one of the same structure, where it has one."""
    if getattr(given, "suture_spec", None):
        attach(made, spec_of(given), files_of(given))
    return made
