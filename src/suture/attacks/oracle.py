"""The only way an attack sees a model: counted, and with each image's own randomness."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from suture.errors import ModelError
from suture.rng import Stream, bits, image_keys
from suture.types import is_randomised

Loss = Callable[[Tensor, Tensor], Tensor]

ATTACK, QUERY, DECISION = 1, 2, 3


class Oracle:
    """Answers an attack's queries on one batch of images.

    Args:
        model: classifier, images to logits.
        images: the clean images; their content keys every random stream.
        goals: int64 ``(n,)``, the true classes, or the targets of a targeted attack.
        targeted: whether ``goals`` are to be reached rather than left.
        stream: the attack's random stream.
        eot: draws averaged per query of a randomised model (expectation over transformation).

    Attributes:
        queries: int64 ``(n,)``, forwards that the attack has spent on each image.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        goals: Tensor,
        *,
        targeted: bool,
        stream: Stream,
        eot: int,
    ) -> None:
        self.model, self.goals, self.targeted, self.eot = model, goals, targeted, eot
        self.keys = image_keys(images, stream)
        self.queries = torch.zeros_like(goals)
        self._randomised = is_randomised(model)

    def random_bits(self, rows: Tensor, *counters: int | Tensor) -> Tensor:
        """64 random bits for each of the rows' images; counters tell draws apart.

        A tensor counter has a first axis for the rows (of size 1 to share it) and further axes
        for the numbers wanted per image.
        """
        keys = self.keys[rows]
        axes = max((c.ndim for c in counters if isinstance(c, Tensor)), default=1)
        return bits(keys.reshape(-1, *(1,) * (axes - 1)), ATTACK, *counters)

    def logits(self, images: Tensor, rows: Tensor) -> Tensor:
        """Logits ``(k, classes)``, averaged over the draws; each draw is a counted query.

        Args:
            images: ``(k, c, h, w)``, the candidates.
            rows: int64 ``(k,)``, which image of the batch each candidate belongs to.
        """
        with torch.no_grad():
            return self._average(images, rows)

    def gradient(self, images: Tensor, rows: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Logits, and the gradient of ``loss(logits, goals)`` with respect to each image.

        ``loss`` returns one value per image; images do not influence each other's gradient.
        """
        images = images.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = self._average(images, rows)
            values = loss(logits, self.goals[rows])
            (gradient,) = torch.autograd.grad(values.sum(), images)
        return logits.detach(), gradient

    def reached(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Bool ``(k,)``: whether ``argmax`` of the logits is what the attacker wants."""
        hit = logits.argmax(1) == self.goals[rows]
        return hit if self.targeted else ~hit

    def decide(self, images: Tensor, occasion: int) -> Tensor:
        """Logits of a decision on all images of the batch, not counted as queries.

        Each occasion is a draw of its own: a model that was lucky on the clean image must not be
        given the same luck on the attacked one.
        """
        with torch.no_grad():
            return self._forward(images, bits(self.keys, DECISION, occasion))

    def _average(self, images: Tensor, rows: Tensor) -> Tensor:
        keys, spent = self.keys[rows], self.queries[rows]
        noise = torch.stack([bits(keys, QUERY, spent + draw) for draw in range(self.eot)])
        self.queries[rows] = spent + self.eot
        if self.eot == 1:
            return self._forward(images, noise[0])
        average: Callable[[Tensor, Tensor], Tensor] | None = getattr(self.model, "average", None)
        if average is not None:
            return self._checked(average(images, noise), images)
        total = self._forward(images, noise[0])
        for row in noise[1:]:
            total = total + self._forward(images, row)
        return total / self.eot

    def _forward(self, images: Tensor, noise: Tensor) -> Tensor:
        output = self.model(images, noise=noise) if self._randomised else self.model(images)
        return self._checked(output, images)

    @staticmethod
    def _checked(output: Tensor, images: Tensor) -> Tensor:
        if output.ndim != 2 or len(output) != len(images):
            raise ModelError(
                expected=f"logits of shape ({len(images)}, classes)",
                got=f"shape {tuple(output.shape)}",
                remedy="Give a classifier that maps (n, c, h, w) images to (n, classes) logits.",
            )
        return output
