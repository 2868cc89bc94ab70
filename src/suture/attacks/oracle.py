"""The only way an attack sees a model: counted, and with each image's own randomness."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from suture.errors import ModelError
from suture.rng import Stream, bits, image_keys
from suture.types import is_randomised

Loss = Callable[[Tensor, Tensor], Tensor]
Averaged = Literal["logits", "losses"]

ATTACK, QUERY, DECISION = 1, 2, 3
WALL = 50.0
"""Logit by which the goal is safe once an image's budget is spent: nothing improves on it."""


class Oracle:
    """Answers an attack's queries on one batch of images.

    Args:
        model: classifier, images to logits.
        images: the clean images; their content keys every random stream.
        goals: int64 ``(n,)``, the true classes, or the targets of a targeted attack.
        targeted: whether ``goals`` are to be reached rather than left.
        stream: the attack's random stream.
        eot: draws averaged per query of a randomised model (expectation over transformation).
        eot_of: what is averaged over the draws, where the attack has a loss.
        budget: forwards allowed per image, ``None`` for no limit. A query that would exceed it is
            not made; the image then meets a wall: logits that nothing improves on, no gradient.
        seconds: time allowed per image, its share of the wall clock; not reproducible.

    Attributes:
        queries: int64 ``(n,)``, forwards that the attack has spent on each image.
        notes: what the attack wants the user to know.
        classes: number of classes, known after the first decision.
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
        eot_of: Averaged = "logits",
        budget: int | None = None,
        seconds: float | None = None,
    ) -> None:
        self.model, self.goals, self.targeted, self.eot = model, goals, targeted, eot
        self.stream, self.keys = stream, image_keys(images, stream)
        self.notes: list[str] = []
        self.queries = torch.zeros_like(goals)
        self._randomised = is_randomised(model)
        self._eot_of, self._budget, self._seconds = eot_of, budget, seconds
        self._used = torch.zeros(len(goals), dtype=torch.float64, device=goals.device)
        self._clock = time.perf_counter()
        self._width = max(256, len(goals))
        self.classes = 0

    def random_bits(self, rows: Tensor, *counters: int | Tensor) -> Tensor:
        """64 random bits for each of the rows' images; counters tell draws apart.

        A tensor counter has a first axis for the rows (of size 1 to share it) and further axes
        for the numbers wanted per image.
        """
        keys = self.keys[rows]
        axes = max((c.ndim for c in counters if isinstance(c, Tensor)), default=1)
        return bits(keys.reshape(-1, *(1,) * (axes - 1)), ATTACK, *counters)

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Inside the block every random stream is another one, told apart by ``name``."""
        keys = self.keys
        self.keys = bits(keys, Stream(0).child(name).key)
        try:
            yield
        finally:
            self.keys = keys

    def logits(self, images: Tensor, rows: Tensor) -> Tensor:
        """Logits ``(k, classes)``, averaged over the draws; each draw is a counted query.

        Args:
            images: ``(k, c, h, w)``, the candidates.
            rows: int64 ``(k,)``, which image of the batch each candidate belongs to; no repeats.
        """
        with torch.no_grad():
            return self._mean(images, rows, self._spend(rows, 1))

    def losses(self, images: Tensor, rows: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Mean logits, and ``loss(logits, goals)``: of the mean, or its mean (``eot_of``)."""
        with torch.no_grad():
            first = self._spend(rows, 1)
            if self._eot_of == "logits" or self.eot == 1:
                logits = self._mean(images, rows, first)
                return logits, loss(logits, self.goals[rows])
            draws = [self._draw(images, rows, first, d) for d in range(self.eot)]
            values = _total([loss(draw, self.goals[rows]) for draw in draws]) / self.eot
            return _total(draws) / self.eot, values

    def differentiable(self, images: Tensor, rows: Tensor) -> Tensor:
        """Mean logits as ``logits``, but gradients are recorded where they are enabled."""
        logits = self._mean(images, rows, self._spend(rows, 1))
        if images.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            return logits + 0.0 * images.flatten(1)[:, :1]
        return logits

    def many(self, images: Tensor, rows: Tensor) -> Tensor:
        """Mean logits ``(k, m, classes)`` of m candidates per image, ``(k, m, c, h, w)``."""
        k, m = images.shape[:2]
        offsets = torch.arange(m, device=rows.device) * self.eot
        first = (self._spend(rows, m)[:, None] + offsets).flatten()
        flat, owners = images.flatten(0, 1), rows.repeat_interleave(m)
        pieces = range(0, k * m, self._width)
        with torch.no_grad():
            parts = [self._mean(*(t[i : i + self._width] for t in (flat, owners, first)))
                     for i in pieces]  # fmt: skip
        return torch.cat(parts).reshape(k, m, -1)

    def gradient(self, images: Tensor, rows: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Logits, and the gradient of ``loss(logits, goals)`` with respect to each image.

        ``loss`` returns one value per image; images do not influence each other's gradient.
        """
        logits, gradients, _ = self.gradients(images, rows, [loss])
        return logits, gradients[0]

    def gradients(
        self, images: Tensor, rows: Tensor, losses: Sequence[Loss]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Logits, and gradients and values of several losses, from one forward (per draw)."""
        images = images.detach().requires_grad_(True)
        first, goals = self._spend(rows, 1), self.goals[rows]
        with torch.enable_grad():
            if self._eot_of == "logits" or self.eot == 1:
                logits = self._mean(images, rows, first)
                return (logits.detach(), *_backward(images, logits, goals, losses))
            parts = []
            for d in range(self.eot):
                logits = self._draw(images, rows, first, d)
                parts.append((logits.detach(), *_backward(images, logits, goals, losses)))
        mean = [_total([part[0] for part in parts]) / self.eot]
        for kind in (1, 2):
            columns = zip(*(part[kind] for part in parts), strict=True)
            mean.append([_total(list(c)) / self.eot for c in columns])  # type: ignore[arg-type]
        return tuple(mean)  # type: ignore[return-value]

    def reached(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Bool ``(k,)``: whether ``argmax`` of the logits is what the attacker wants."""
        hit = logits.argmax(-1) == self.goals[rows].reshape(-1, *(1,) * (logits.ndim - 2))
        return hit if self.targeted else ~hit

    def finished(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Bool ``(k,)``: reached, or the image can ask no more."""
        done = self.reached(logits, rows)
        return done | ~self.can_ask(rows) if self.limited else done

    def can_ask(self, rows: Tensor) -> Tensor:
        """Bool ``(k,)``: whether the image's budget allows another query."""
        return self._allowed(rows, self.queries[rows])

    def decide(self, images: Tensor, occasion: int) -> Tensor:
        """Logits of a decision on all images of the batch, not counted as queries.

        Each occasion is a draw of its own: a model that was lucky on the clean image must not be
        given the same luck on the attacked one.
        """
        with torch.no_grad():
            noise = bits(self.keys, DECISION, occasion) if self._randomised else None
            logits = self._forward(images, noise)
        self.classes, self._clock = logits.shape[1], time.perf_counter()
        return logits

    @property
    def limited(self) -> bool:
        """Whether there is a budget at all."""
        return self._budget is not None or self._seconds is not None

    def _allowed(self, rows: Tensor, first: Tensor) -> Tensor:
        allowed = torch.ones_like(first, dtype=torch.bool)
        if self._budget is not None:
            allowed &= first + self.eot <= self._budget
        if self._seconds is not None:
            allowed &= self._used[rows] < self._seconds
        return allowed

    def _spend(self, rows: Tensor, each: int) -> Tensor:
        """Counts ``each`` queries a row; returns what the rows had spent before, ``(k,)``."""
        spent = self.queries[rows]
        if self._seconds is not None:
            now = time.perf_counter()
            self._used[rows] += (now - self._clock) / max(1, len(rows))
            self._clock = now
        asked: int | Tensor = each
        if self._budget is not None:
            asked = ((self._budget - spent) // self.eot).clamp(0, each)
        if self._seconds is not None:
            asked = asked * (self._used[rows] < self._seconds)
        self.queries[rows] = spent + asked * self.eot
        return spent

    def _mean(self, images: Tensor, rows: Tensor, first: Tensor) -> Tensor:
        average: Callable[[Tensor, Tensor], Tensor] | None = getattr(self.model, "average", None)
        if self.eot == 1 or average is None:
            draws = [self._draw(images, rows, first, d) for d in range(self.eot)]
            return _total(draws) / self.eot if self.eot > 1 else draws[0]

        def ask(images: Tensor, rows: Tensor, first: Tensor) -> Tensor:
            noise = [bits(self.keys[rows], QUERY, first + d) for d in range(self.eot)]
            return self._checked(average(images, torch.stack(noise)), images)

        return self._walled(images, rows, first, ask)

    def _draw(self, images: Tensor, rows: Tensor, first: Tensor, draw: int) -> Tensor:
        def ask(images: Tensor, rows: Tensor, first: Tensor) -> Tensor:
            if not self._randomised:
                return self._forward(images, None)
            return self._forward(images, bits(self.keys[rows], QUERY, first + draw))

        return self._walled(images, rows, first, ask)

    def _walled(
        self,
        images: Tensor,
        rows: Tensor,
        first: Tensor,
        ask: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """``ask``, but only for images that have budget left."""
        if not self.limited:
            return ask(images, rows, first)
        allowed = self._allowed(rows, first)
        if bool(allowed.all()):
            return ask(images, rows, first)
        wall = torch.zeros(len(rows), self.classes, dtype=images.dtype, device=images.device)
        height = -WALL if self.targeted else WALL
        wall.scatter_(1, self.goals[rows][:, None], height)
        if bool(allowed.any()):
            wall[allowed] = ask(images[allowed], rows[allowed], first[allowed])
        return wall

    def _forward(self, images: Tensor, noise: Tensor | None) -> Tensor:
        output = self.model(images) if noise is None else self.model(images, noise=noise)
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


def _total(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _backward(
    images: Tensor, logits: Tensor, goals: Tensor, losses: Sequence[Loss]
) -> tuple[list[Tensor], list[Tensor]]:
    values = [loss(logits, goals) for loss in losses]
    gradients = []
    for index, value in enumerate(values):
        if not value.requires_grad:
            gradients.append(torch.zeros_like(images))
            continue
        more = index + 1 < len(values)
        gradients.append(torch.autograd.grad(value.sum(), images, retain_graph=more)[0])
    return gradients, [value.detach() for value in values]
