"""What A5 trains: a robustifier before a classifier, alone or together with it."""

from __future__ import annotations

from torch import Tensor, nn

from suture import bounds
from suture.repairs.a5.robustifier import DefendedClassifier
from suture.repairs.certified_training.loss import Judged, certified_loss, interval_margins
from suture.rng import Stream
from suture.types import Batch


class DefendedPupil:
    """``E(θ) = mean over x of CE_worst(x + δ_D(R(x)))`` (A5, Eq. 7 and 9).

    Args:
        model: robustifier and classifier, trained in place.
        in_shape: ``(c, h, w)``.
        eps: ε_A^R or ε_A^C: the attack that robustified images must withstand, after R.
        together: whether the classifier learns too (RC), or stays as it is (R).
    """

    def __init__(
        self, model: DefendedClassifier, in_shape: tuple[int, ...], eps: float, *, together: bool
    ) -> None:
        self.module, self.eps, self.together = model, eps, together
        self.network = bounds.read(model.classifier, in_shape)
        self.robustifier = model.robustifier

    def parameters(self) -> list[nn.Parameter]:
        """The robustifier's, and the classifier's where both learn."""
        source = self.module if self.together else self.robustifier
        return [p for p in source.parameters() if p.requires_grad]

    def loss(
        self, images: Tensor, labels: Tensor, share: float, crown: float, stream: Stream
    ) -> Judged:
        """``certified_loss`` of the robustified images, not rounded."""
        moved = self.robustifier.moved(images)
        natural = 1.0 - share
        return certified_loss(self.network, moved, labels, share * self.eps, crown, natural)

    def judge(self, batch: Batch, stream: Stream) -> tuple[Tensor, Tensor]:
        """Of the images that would be stored: rounded to 8 bits."""
        stored = self.robustifier(batch.images)
        right = self.network(stored).argmax(1) == batch.labels
        held = interval_margins(self.network, stored, batch.labels, self.eps) > 0
        return right, right & held
