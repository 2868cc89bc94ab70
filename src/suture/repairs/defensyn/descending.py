"""Programs that grow by affine steps down the gradient of a loss: ``v_i = v_i + b·v_k``.

A greedy search in the language, coordinate by coordinate. Of all pairs (i, k) those are tried
whose step promises most by the loss' gradient at the repaired features, as a quadratic model with
the gradient's own squares for curvature says; a line search over b decides, on the loss itself. k
may be i (a product with a constant) or no feature at all (a constant is added).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from suture.repairs.defensyn.execution import run_program
from suture.repairs.defensyn.language import Constant, Feature, Instruction, Opcode, Program
from suture.repairs.defensyn.weighted import WeightedSamples
from suture.rng import Stream

FACTORS = (0.1, 0.3, 1.0, 3.0)
"""Of the step that the quadratic model wants."""
PROMISING = 24
"""Pairs that those are drawn from, so that programs differ."""


@dataclass(frozen=True, eq=False)
class AffineSteps:
    """What grows programs.

    Attributes:
        head: features ``(n, m)`` to logits; it ignores the last feature, which is for scratch.
        samples: attacked images with the attacker's weights, then clean ones.
        lambda_: weight of a clean image.
        steps: affine steps of a program; twice as many instructions at most.
        longest: instructions of a program, at most.
        share: of the images, that each program answers: many and different ones help.
        tried: pairs whose line is searched, out of the most promising.
    """

    head: nn.Module
    samples: WeightedSamples
    lambda_: float
    steps: int
    longest: int
    share: float = 0.7
    tried: int = 6

    def __call__(self, bases: list[Program], stream: Stream) -> list[Program]:
        """From every base programs of half the steps and of all of them."""
        found: list[Program] = []
        for number, base in enumerate(bases):
            found += self._grown(base, stream.child(number).generator())
        return found

    def _grown(self, base: Program, generator: torch.Generator) -> list[Program]:
        values, finite = run_program(base, self.samples.features)
        instructions, snapshots = list(base.instructions), []
        chosen = torch.rand(len(values), generator=generator).to(values.device) < self.share
        weights = self.samples.weights * chosen
        weights[self.samples.adversarial :] *= self.lambda_
        for step in range(self.steps):
            if not finite or len(instructions) + 2 > self.longest:
                break
            made = self._step(values, weights, generator)
            if made is None:
                break
            added, values = made
            instructions += added
            if step + 1 in (self.steps // 2, self.steps):
                snapshots.append(Program(tuple(instructions)))
        return snapshots

    def _step(
        self, values: Tensor, weights: Tensor, generator: torch.Generator
    ) -> tuple[list[Instruction], Tensor] | None:
        """The best step, and the features after it; ``None`` where none lowers the loss."""
        before, slope, each = self._slope(values, weights)
        sources = torch.cat([values[:, :-1], torch.ones_like(values[:, :1])], 1)
        pull = -(slope.T @ sources)[:-1]
        curvature = ((each**2 * weights[:, None]).T @ sources**2)[:-1] + 1e-6
        promise = pull**2 / curvature
        best = promise.flatten().topk(min(PROMISING, promise.numel())).indices
        order = torch.randperm(len(best), generator=generator)[: self.tried].to(best.device)
        width = promise.shape[1]
        tried = []
        for flat in best[order].tolist():
            i, k = divmod(flat, width)
            for factor in FACTORS:
                tried.append((i, k, factor * float(pull[i, k] / curvature[i, k])))
        return self._best(values, sources, weights, tried, before)

    def _best(
        self,
        values: Tensor,
        sources: Tensor,
        weights: Tensor,
        tried: list[tuple[int, int, float]],
        before: float,
    ) -> tuple[list[Instruction], Tensor] | None:
        moved = values.repeat(len(tried), 1, 1)
        for row, (i, k, b) in enumerate(tried):
            moved[row, :, i] += b * sources[:, k]
        with torch.no_grad():
            losses = torch.stack([self._losses(one) @ weights for one in moved])
        winner = int(losses.argmin())
        if not float(losses[winner]) < before:
            return None
        i, k, b = tried[winner]
        return _instructions(i, k, b, values.shape[1] - 1), moved[winner]

    def _slope(self, values: Tensor, weights: Tensor) -> tuple[float, Tensor, Tensor]:
        """The loss, its gradient at every sample's features, and the gradients unweighted."""
        given = values.detach().requires_grad_(True)
        with torch.enable_grad():
            losses = self._losses(given)
            (each,) = torch.autograd.grad(losses.sum(), given)
        return float(losses.detach() @ weights), each * weights[:, None], each

    def _losses(self, values: Tensor) -> Tensor:
        return F.cross_entropy(self.head(values), self.samples.labels, reduction="none")


def _instructions(i: int, k: int, b: float, scratch: int) -> list[Instruction]:
    """``v_i = v_i + b·v_k`` in the language; k may be the target, or ``scratch``: the number 1."""
    own = Feature(i)
    if k == scratch:
        return [Instruction(i, Opcode.ADD, own, Constant(b))]
    if k == i:
        return [Instruction(i, Opcode.MUL, own, Constant(1 + b))]
    return [
        Instruction(scratch, Opcode.MUL, Feature(k), Constant(b)),
        Instruction(i, Opcode.ADD, own, Feature(scratch)),
    ]
