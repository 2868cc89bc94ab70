"""A classifier whose images are robustified ahead of time (A5/O), and how it is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from suture.errors import ModelError
from suture.models import attach, files_of, spec_of
from suture.types import Batch, RepairedModel

KIND = "a5-prepared"
KNOWN, PREDICTED = "label known", "label predicted"
Move = Callable[[nn.Module, Batch], Tensor]
"""Robustified images ``(n, c, h, w)`` for a classifier, given images with classes."""


class PreparedClassifier(RepairedModel):
    """C, which reads images that A5/O has robustified: its certificates speak of such images.

    What it is worth depends on who says the class when an image is moved: the truth, as in the
    paper, or the classifier itself. ``variants`` has both.

    Args:
        classifier: C.
        move: robustifies images.
    """

    def __init__(self, classifier: nn.Module, move: Move) -> None:
        super().__init__()
        self.classifier, self.move = classifier, move

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(n, classes)`` of images that are robustified already."""
        logits: Tensor = self.classifier(images)
        return logits

    def undefended(self) -> nn.Module:
        """The classifier; shares this one's weights."""
        return self.classifier

    def certified_part(self) -> nn.Module:
        """The network whose inputs certificates speak of."""
        return self.classifier

    def variants(self) -> dict[str, RepairedModel]:
        """With labels that the classifier predicts, and with known ones."""
        made = (Offline(self.classifier, self.move, known=known) for known in (False, True))
        return dict(zip((PREDICTED, KNOWN), made, strict=True))

    def about_attacks(self) -> str:
        """What attacks on it are, for whoever reads their result."""
        return (
            "This classifier reads images that A5/O has robustified. `suture evaluate` and `suture "
            "certify` robustify test images first; other commands show it images as they are."
        )


class Offline(RepairedModel):
    """C behind A5/O, one of two ways: every image costs a search when it is moved.

    Args:
        classifier: C.
        move: robustifies images.
        known: whether ``handed_on`` moves by the true classes; otherwise, and in every forward, by
            those that the classifier says.
    """

    def __init__(self, classifier: nn.Module, move: Move, *, known: bool) -> None:
        super().__init__()
        self.mover, self.classifier, self.known = _Mover(classifier, move), classifier, known

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(n, classes)``; no gradient leads through the move."""
        logits: Tensor = self.classifier(self.mover(images))
        return logits

    def undefended(self) -> nn.Module:
        """The classifier without the move."""
        return self.classifier

    def certified_part(self) -> nn.Module:
        """The network whose inputs certificates speak of."""
        return self.classifier

    def preemptive(self) -> tuple[nn.Module, nn.Module]:
        """What moves images by the classes that the classifier says, and the classifier."""
        return self.mover, self.classifier

    def handed_on(self, images: Tensor, labels: Tensor) -> Tensor:
        """Robustified by the given classes, or by the classifier's."""
        return self.mover(images, labels if self.known else None)  # type: ignore[no-any-return]

    @property
    def searched_before(self) -> bool:
        """A search within each step of a search is out of reach."""
        return False


class _Mover(nn.Module):
    def __init__(self, classifier: nn.Module, move: Move) -> None:
        super().__init__()
        self.classifier, self.move = classifier, move

    @torch.no_grad()
    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is None:
            pieces = images.split(256)
            labels = torch.cat([self.classifier(piece).argmax(1) for piece in pieces])
        return self.move(self.classifier, Batch(images, labels))


def prepared(classifier: nn.Module, move: Move, settings: dict[str, Any]) -> PreparedClassifier:
    """The classifier as A5/O gives it back; it can be saved if the classifier can.

    Args:
        settings: of ``move``, for the bundle.
    """
    made = PreparedClassifier(classifier, move)
    try:
        base = spec_of(classifier)
    except ModelError:
        return made
    attach(made, {"kind": KIND, "base": base, "settings": settings}, files_of(classifier))
    return made
