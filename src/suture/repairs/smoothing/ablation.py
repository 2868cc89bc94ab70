"""Randomised ablation: votes over images of which a few pixels are kept, against changed pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from suture.certify.smoothing import Ablation
from suture.models import attach, files_of, spec_of
from suture.repairs.base import REPAIRS
from suture.repairs.context import Context
from suture.repairs.result import RepairResult
from suture.repairs.smoothing.method import VotingRepair
from suture.repairs.smoothing.paired import paired
from suture.types import LabelledImages


@REPAIRS.add("ablation")
@dataclass(frozen=True, kw_only=True)
class RandomisedAblation(VotingRepair):
    """Randomised ablation (Levine & Feizi 2020, arXiv:1911.09272): L0, changed pixels.

    Copies keep k random pixels of the image and show nothing of the others. A change of ρ pixels
    touches a share ``Δ = 1 - C(d-ρ, k) / C(d, k)`` of all copies: if the winner has a share of at
    least p, g answers the same while ``p - Δ > 1/2``. The given network gets a first layer with
    doubled channels, which tells "nothing" from black, and learns on ablated training images.

    Args:
        keep: k (paper: 45 for MNIST, 75 for CIFAR-10, 1 000 for ImageNet).
        n0: copies that choose the class that is certified (the paper's number, as n and alpha).
        n: copies that bound its share.
        alpha: chance that an image's certificate is wrong.
        epochs: passes over the training images; at least 1: the doubled channels must learn.
    """

    keep: int = 45
    n0: int = 1_000
    n: int = 10_000
    alpha: float = 0.05
    epochs: int = 20

    def _checks(self) -> dict[str, bool]:
        return super()._checks() | {"keep >= 1": self.keep >= 1, "epochs >= 1": self.epochs >= 1}

    @property
    def kind(self) -> Ablation:
        """k pixels."""
        return Ablation(self.keep)

    @property
    def threat(self) -> dict[str, Any]:
        """The norm of its certificates; eight pixels are the paper's median for MNIST."""
        return {"norm": "l0", "eps": 8.0}

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        _, height, width = data.shape
        self.kind.check(height * width)
        start = paired(model, data.shape)
        result = self.training()._repair(start, data, context)
        if getattr(start, "suture_spec", None):
            attach(result.model, spec_of(start), files_of(start))
        return self.finished(result.model, result.trace)
