"""Denoised smoothing: a denoiser before a classifier that has never seen noise."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from suture import models
from suture.certify.smoothing import Gaussian
from suture.errors import ArgumentError, ModelError
from suture.repairs.adversarial_training.suffix import Suffix
from suture.repairs.base import REPAIRS
from suture.repairs.context import Context
from suture.repairs.result import RepairResult
from suture.repairs.smoothing.denoiser import DenoisedClassifier, behind, build_denoiser
from suture.repairs.smoothing.method import VotingRepair, copied
from suture.repairs.smoothing.noise_training import NoiseTraining
from suture.types import LabelledImages

Objective = Literal["mse", "stability", "mse+stability"]


@dataclass(frozen=True, kw_only=True)
class DenoiserTraining(NoiseTraining):
    """Train the denoiser alone; the classifier behind keeps its weights, in eval mode.

    Args:
        stable: stability in place of the squared error: the cross entropy of ``f(D(x + ε))``
            against the class that f itself gives to the clean image (no labels).
    """

    stable: bool = False

    def part(self, model: nn.Module, images: Tensor) -> Suffix:
        """The denoiser."""
        assert isinstance(model, DenoisedClassifier), "made by denoised smoothing alone"
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        learning = [p for p in model.denoiser.parameters() if p.is_floating_point()]
        if not learning:
            raise ModelError(
                expected="a denoiser with weights to train",
                got="none",
                remedy="Set epochs=0 to use it as it is.",
            )
        for parameter in learning:
            parameter.requires_grad_(True)
        layers = sum(p.ndim > 1 for p in learning)
        return Suffix(model, (model.classifier,), tuple(learning), (layers, layers))

    def loss(self, model: nn.Module, images: Tensor, attacked: Tensor, labels: Tensor) -> Tensor:
        """Of the denoised images, or of the classes they get."""
        assert isinstance(model, DenoisedClassifier), "made by denoised smoothing alone"
        if not self.stable:
            return mse_loss(model.denoiser(attacked), images)
        with torch.no_grad():
            own = model.classifier(images).argmax(1)
        return cross_entropy(model(attacked), own)


@REPAIRS.add("denoised-smoothing")
@dataclass(frozen=True, kw_only=True)
class DenoisedSmoothing(VotingRepair):
    """Denoised smoothing (Salman et al. 2020, arXiv:2003.01908): ``g`` of smoothing for ``f ∘ D``.

    The given classifier f stays as it is, to the bit; a denoiser D before it makes noisy copies
    clean enough for it. The certificates are those of randomised smoothing, about f behind D.

    Args:
        sigma: σ of the noise, pixel values in [0, 1].
        objective: of the denoiser: "mse" (squared error), "stability" (the cross entropy against
            f's own classes of the clean images), or "mse+stability": one half of the epochs each,
            one after the other.
        denoiser: a bundle or an ONNX file with a network from images to images, in place of a new
            one (``None``); with epochs above 0 it is trained further.
        depth: convolutions of a new one (paper: 17).
        width: channels inside (paper: 64).
    """

    sigma: float = 0.25
    objective: Objective = "mse+stability"
    denoiser: str | None = None
    depth: int = 4
    width: int = 16
    lr: float = 3e-3

    def _checks(self) -> dict[str, bool]:
        return super()._checks() | {
            "0 < sigma < inf": 0 < self.sigma < math.inf,
            "objective mse, stability or mse+stability": self.objective
            in ("mse", "stability", "mse+stability"),
            "depth >= 2, width >= 1": self.depth >= 2 and self.width >= 1,
            "epochs >= 1, or a denoiser": self.epochs >= 1 or self.denoiser is not None,
        }

    @property
    def kind(self) -> Gaussian:
        """Gaussian noise."""
        return Gaussian(self.sigma)

    @property
    def threat(self) -> dict[str, Any]:
        """The norm of its certificates; their radius is each image's own."""
        return {"norm": "l2", "eps": self.sigma}

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        denoiser = self._denoiser(data, context).to(data.device)
        both: nn.Module = DenoisedClassifier(denoiser, copy.deepcopy(model)).eval()
        trace: dict[str, Any] = {}
        for stable, epochs in self.stages():
            training = DenoiserTraining(**self.trained() | {"epochs": epochs}, stable=stable)
            name = "stability" if stable else "mse"
            trained = training._repair(both, data, context.child(name))
            both, trace[name] = trained.model, trained.trace
        assert isinstance(both, DenoisedClassifier), "stages return what they are given"
        # Training has frozen parts of its copies; what is given back is whole, and the given f.
        for parameter in both.parameters():
            parameter.requires_grad_(True)
        made = both.denoiser
        if getattr(denoiser, "suture_spec", None):
            models.attach(made, models.spec_of(denoiser), models.files_of(denoiser))
        last: dict[str, Any] = next(reversed(trace.values()), {})
        told: dict[str, Any] = {k: last[k] for k in ("before", "curve", "chosen") if k in last}
        stages = {name: {k: v for k, v in t.items() if k != "curve"} for name, t in trace.items()}
        return self.finished(behind(made, copied(model)), {**told, "stages": stages})

    def stages(self) -> list[tuple[bool, int]]:
        """Whether stability is what counts, and the epochs, of each training."""
        if not self.epochs:
            return []
        if self.objective != "mse+stability":
            return [(self.objective == "stability", self.epochs)]
        first = (self.epochs + 1) // 2
        return [(False, first)] + [(True, self.epochs - first)] * (self.epochs > first)

    def _denoiser(self, data: LabelledImages, context: Context) -> nn.Module:
        if self.denoiser is None:
            seed = context.stream.child("denoiser").key
            return build_denoiser(data.shape[0], self.depth, self.width, seed=seed)
        shape = data.shape if self.denoiser.endswith(".onnx") else None
        found = models.load(self.denoiser, in_shape=shape)
        with torch.no_grad():
            out = found(data[:2].images)
        if out.shape != data[:2].images.shape:
            raise ArgumentError(
                expected=f"a denoiser from images {data.shape} to images of that shape",
                got=f"one that makes {tuple(out.shape[1:])} of them",
                remedy="Name a network that was trained to take noise out of such images.",
            )
        return found
