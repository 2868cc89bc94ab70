"""What DARE's search tunes: the regression model, over collected images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from suture.repairs.dare.collecting import Collected
from suture.repairs.dare.regression import Mask, Regression
from suture.repairs.tuning import accuracy, orders
from suture.rng import Stream
from suture.types import Batch


@dataclass(frozen=True, eq=False)
class RegressionFit:
    """Formula 3 over collected images, each class through its own masks.

    Attributes:
        node: where the model is watched; ``None`` for the cross entropy of its logits.
        mask: what counts, and what may change, for each class.
        tuning, held: collected images to tune on, and to judge by.
        judge: attacked held-out images that judge in place of the loss, if given.
        batch_size: images per forward where nothing is learned.
    """

    node: int | None
    mask: Mask
    tuning: Collected
    held: Collected
    judge: Batch | None
    batch_size: int

    def steps(self, model: nn.Module, stream: Stream, size: int) -> Iterator[dict[str, Tensor]]:
        """One pass over the collected images; batch norm and dropout as in eval mode."""
        batch = self.tuning.batch
        assert batch is not None
        regression = Regression(model, self.node, self.mask, batch.shape)
        pieces = orders(len(batch), stream, size)
        for some, chosen in zip(batch.feed(pieces), pieces, strict=True):
            yield regression.gradients(some.images, some.labels, self.tuning.targets[chosen])

    def score(self, model: nn.Module) -> float:
        """Minus the mean loss over held-out collected images; with a judge, accuracy there."""
        if self.judge is not None:
            return accuracy(model, self.judge, self.batch_size)
        assert self.held.batch is not None
        regression = Regression(model, self.node, self.mask, self.held.batch.shape)
        return -regression.loss(self.held, self.batch_size)
