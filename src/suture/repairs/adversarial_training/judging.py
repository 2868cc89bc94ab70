"""What an epoch is worth: accuracy on held-out images, clean and under APGD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from suture.attacks import APGD, PGD, Attack
from suture.engine import Share
from suture.repairs.tuning import accuracy
from suture.rng import Stream
from suture.types import LabelledImages

WATCHED = 256
"""Images that are watched; a collapse is seen in fewer."""


@dataclass(frozen=True)
class HeldOut:
    """Shares of the held-out images, in [0, 1].

    Attributes:
        clean: right.
        robust: right still under every one of the attacks.
    """

    clean: float
    robust: float


@dataclass(frozen=True, eq=False)
class Judge:
    """Held-out images, and what attacks them.

    Attributes:
        held: all of them: the clean accuracy.
        attacked: those of them that are attacked.
        eps, steps: of APGD with the cross entropy and, from three classes on, targeted DLR losses.
        stream: the same for every epoch, so that epochs can be compared.
        batch_size: images per forward.
        share: this process' part of the images, where several judge together.
    """

    held: LabelledImages
    attacked: LabelledImages
    eps: float
    steps: int
    stream: Stream
    batch_size: int
    share: Share = field(default_factory=Share)

    def shared(self, share: Share) -> Judge:
        """The same for one process of several, on its device."""
        if share.device is None:
            return replace(self, share=share)
        held, attacked = self.held.to(share.device), self.attacked.to(share.device)
        return replace(self, held=held, attacked=attacked, share=share)

    def __call__(self, model: nn.Module) -> HeldOut:
        """Of a model in eval mode."""
        own = self.share.own(torch.arange(len(self.held)))
        held = self.held if self.share.world == 1 else self.held[own]
        right = round(accuracy(model, held, self.batch_size) * len(held))
        clean = self.share.total(right)[0] / len(self.held)
        return HeldOut(clean, self._left(model, self._attacks(model)))

    def watch(self, model: nn.Module) -> float:
        """Accuracy of the first of them under PGD alone: cheap, for every epoch."""
        some = replace(self, attacked=self.attacked[:WATCHED])
        return some._left(model, [PGD(eps=self.eps, steps=self.steps)])

    def _attacks(self, model: nn.Module) -> list[Attack]:
        with torch.no_grad():
            classes = model(self.attacked[:1].images).shape[1]
        plain = APGD(eps=self.eps, steps=self.steps)
        # Cross entropy alone is far too kind to a suffix over frozen features.
        return [plain, replace(plain, loss="dlr-targeted")] if classes > 2 else [plain]

    def _left(self, model: nn.Module, attacks: Sequence[Attack]) -> float:
        """Share that no attack turns; each sees those that are left."""
        left = self.share.own(torch.arange(len(self.attacked)))
        for index, attack in enumerate(attacks):
            if len(left):
                left = left[self._robust(model, attack, left, index)]
        return self.share.total(len(left))[0] / len(self.attacked)

    def _robust(self, model: nn.Module, attack: Attack, rows: Tensor, index: int) -> Tensor:
        held = []
        for piece in self.attacked.select(rows).split(self.batch_size):  # as one call would
            found = attack(
                model, piece, generator=self.stream.child(index), batch_size=self.batch_size
            )
            held.append(found.robust.cpu())
        return torch.cat(held)

    def facts(self) -> dict[str, Any]:
        """For a trace."""
        return {
            "held_out": len(self.held),
            "attacked": len(self.attacked),
            "attack": f"APGD, cross entropy and targeted DLR, {self.steps} steps, L∞ {self.eps:g}",
        }
