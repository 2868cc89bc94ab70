"""The paper's Random variant: no synthesis, a fresh random program for every input (section 5.3).

The length is uniform over 1 … 10, instructions come from Algorithm 2 with uniform distributions.
Everything is tensor code on 64 random bits per image, so that it can be exported.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from suture.repairs.defensyn.draws import SamplingModule
from suture.repairs.defensyn.encoding import NOTHING, Encoded
from suture.repairs.defensyn.execution import row_step
from suture.repairs.defensyn.language import Opcode
from suture.rng import bits, integers, uniform

_LENGTH, _STEPS = 0, 1
_LARGEST = 1e30
"""Values beyond count as not finite: the head's sums would overflow."""


class RandomPrograms(SamplingModule):
    """``head(P(encoder(x)))`` with a program ``P`` made up anew for every input, in eval mode too.

    An instruction whose value is not finite has no effect for that input, as one that divides by
    0 (ours: the paper discards such programs while it synthesises, and here nothing is).

    Args:
        encoder, head: the two halves of the classifier.
        features: m, width of the encoder's output.
        max_length: longest program; shorter ones are as frequent.
        constants: interval [low, high) of constants.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        features: int,
        max_length: int = 10,
        constants: tuple[float, float] = (-30.0, 30.0),
    ) -> None:
        super().__init__()
        self.encoder, self.head, self.features = encoder, head, features
        self.max_length, self.constants = max_length, constants
        self.suture_spec: dict[str, Any] | None = None
        self.suture_files: dict[str, bytes] = {}

    @property
    def randomised(self) -> bool:
        """Two forwards of one image may differ."""
        return True

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Logits ``(n, classes)``.

        Args:
            images: ``(n, c, h, w)`` in [0, 1].
            noise: int64 ``(n,)``, random bits that decide each image's program.
        """
        return self.head(self.repaired(self.encoder(images), self._bits(images, noise)))

    def average(self, images: Tensor, noise: Tensor) -> Tensor:
        """Mean logits ``(n, classes)`` over draws, ``noise`` ``(draws, n)``; one encoder pass."""
        features = self.encoder(images)
        total = torch.zeros((), device=images.device)
        for draw in noise:
            total = total + self.head(self.repaired(features, draw))
        return total / len(noise)

    def about_answers(self, images: Tensor, noise: Tensor | None = None) -> list[str]:
        """The length of the program that is made up."""
        if noise is None:
            return ["a program made up anew"] * len(images)
        lengths = (1 + integers(bits(noise, _LENGTH), self.max_length)).tolist()
        return [f"a program of length {one}, made up for this image" for one in lengths]

    def undefended(self) -> nn.Module:
        """The classifier without programs; shares this one's weights."""
        return nn.Sequential(self.encoder, self.head).train(self.training)

    def repaired(self, features: Tensor, noise: Tensor) -> Tensor:
        """Features ``(n, m)`` after each row's own random program."""
        length = 1 + integers(bits(noise, _LENGTH), self.max_length)
        for step in range(self.max_length):
            drawn = _instruction(bits(noise, _STEPS, step), self.features, *self.constants)
            target, op, *operands = drawn
            op = torch.where(step < length, op, torch.full_like(op, NOTHING))
            target, value = row_step(features, target, op, *operands)
            value = torch.where(value.abs() <= _LARGEST, value, features.gather(1, target))
            features = features.scatter(1, target, value)
        return features

    def programs_of(self, noise: Tensor) -> Encoded:
        """The programs ``(n, max_length)`` that this noise stands for, as arrays."""
        length = 1 + integers(bits(noise, _LENGTH), self.max_length)
        steps = [
            _instruction(bits(noise, _STEPS, step), self.features, *self.constants)
            for step in range(self.max_length)
        ]
        columns = [torch.stack(column, 1).cpu() for column in zip(*steps, strict=True)]
        used = torch.arange(self.max_length) < length[:, None].cpu()
        columns[1] = torch.where(used, columns[1], torch.full_like(columns[1], NOTHING))
        arrays = [c.numpy() if c.is_floating_point() else c.int().numpy() for c in columns]
        return Encoded(*arrays)

    def _bits(self, images: Tensor, noise: Tensor | None) -> Tensor:
        noise = self._noise(images, noise)
        if noise is None:
            noise = torch.randint(0, 2**62, (images.shape[0],), device=images.device)
        return noise


def _instruction(noise: Tensor, features: int, low: float, high: float) -> tuple[Tensor, ...]:
    """Algorithm 2 with uniform distributions, a row each: the columns of ``Encoded``."""

    def pick(lane: int, count: int) -> Tensor:
        return integers(bits(noise, lane), count)

    target, first, second = (pick(lane, features) for lane in (0, 1, 2))
    constant = uniform(bits(noise, 3), low, high)
    kind = pick(7, 3)  # a constant, the first feature, or an operation
    nothing = torch.full_like(first, NOTHING)
    left, right = (_operand(pick(lane, 3), first, second, nothing) for lane in (4, 5))
    op = torch.where(kind == 2, 1 + pick(6, 6), torch.full_like(kind, int(Opcode.COPY)))
    left = torch.where(kind == 0, nothing, torch.where(kind == 1, first, left))
    right = torch.where(kind == 2, right, nothing)
    return target, op, left, right, constant, constant


def _operand(which: Tensor, first: Tensor, second: Tensor, nothing: Tensor) -> Tensor:
    return torch.where(which == 0, nothing, torch.where(which == 1, first, second))
