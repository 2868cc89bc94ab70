"""Training on noisy images: adversarial training's loop with noise where the attack was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from suture.certify.smoothing import Ablation, Gaussian, RandomCopies
from suture.repairs.adversarial_training import AdversarialTraining
from suture.repairs.adversarial_training.judging import HeldOut, Judge
from suture.repairs.adversarial_training.suffix import Suffix, part_of
from suture.repairs.context import Context
from suture.repairs.smoothing.smoothed import tallies
from suture.rng import Stream, bits
from suture.types import LabelledImages

COPIES = 8
"""Noisy copies of each held-out image that the judge classifies."""


@dataclass(frozen=True, kw_only=True)
class NoiseTraining(AdversarialTraining):
    """Minimise the cross entropy of noisy copies, one fresh copy an image and step.

    The recipe of Cohen et al. 2019 (Gaussian) and of Levine & Feizi 2020 (ablation), from given
    weights. What is given back is the judged epoch whose noisy copies of held-out images are right
    most often; clean accuracy is not looked at.

    Args:
        kind: of the noise.
    """

    kind: RandomCopies = field(default_factory=lambda: Gaussian(0.25))
    eps: float = 1.0
    warm_up: float = 0.0
    reach: float = 1.0
    limit: float = 100.0
    lr: float = 3e-3

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Gaussian: what is added, of the images' shape; ablation: 1 where a pixel is kept."""
        if isinstance(self.kind, Gaussian):
            return self.kind.sigma * torch.randn(shape, generator=generator)
        assert isinstance(self.kind, Ablation), "no other noise has a certificate"
        drawn = torch.rand(shape[0], shape[2] * shape[3], generator=generator)
        kept = torch.zeros_like(drawn).scatter(1, drawn.topk(self.kind.keep, 1).indices, 1.0)
        return kept.view(-1, 1, *shape[2:])

    def attacked(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        noise: Tensor,
        fixed: Sequence[nn.Parameter] = (),
    ) -> Tensor:
        """The noisy copies; nobody attacks."""
        read = self.kind.whole(images)
        return read + noise if isinstance(self.kind, Gaussian) else read * noise

    def part(self, model: nn.Module, images: Tensor) -> Suffix:
        """All that learns; its forward reads images as the voters do."""
        return part_of(model, self.layers, self.kind.whole(images))

    def _judge(self, held: LabelledImages, context: Context) -> Judge:
        return NoisyJudge(
            held=held,
            attacked=held[: self.judged],
            eps=self.eps,
            steps=1,
            stream=context.stream.child("judge"),
            batch_size=context.batch_size,
            kind=self.kind,
        )


@dataclass(frozen=True, eq=False)
class NoisyJudge(Judge):
    """Accuracy of held-out images, whole, and of noisy copies of them.

    Attributes:
        kind: of the noise.
    """

    kind: RandomCopies = field(default_factory=lambda: Gaussian(0.25))

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> HeldOut:
        """Of a model in eval mode."""
        held = self.held[self.share.own(torch.arange(len(self.held)))]
        right = sum(
            int((model(self.kind.whole(piece.images)).argmax(1) == piece.labels).sum())
            for piece in held.split(self.batch_size)
        )
        return HeldOut(self.share.total(right)[0] / len(self.held), self._noisy(model))

    def _noisy(self, model: nn.Module) -> float:
        """Mean share of an image's copies that are classified right; the same copies always."""
        rows = self.share.own(torch.arange(len(self.attacked), device=self.attacked.device))
        some = self.attacked[rows]
        keys = bits(
            rows[:, None] + (Stream(self.stream.key).child("copies").key >> 2), torch.arange(COPIES)
        )
        hard, _ = tallies(model, self.kind, some.images, keys)
        right = float(hard.gather(1, some.labels[:, None]).sum())
        return self.share.total(right)[0] / COPIES / len(self.attacked)

    def facts(self) -> dict[str, Any]:
        """For a trace."""
        return {
            "held_out": len(self.held),
            "noisy": len(self.attacked),
            "copies": COPIES,
            "noise": self.kind.facts,
        }
