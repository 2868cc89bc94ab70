"""Scores of programs on samples that weigh differently, by counts or by clipped margins.

A best response to an attacker who mixes his images is the program with the largest
``Σ_v p_v · right(v) + λ · Σ_i right(clean i)``, p_v being how often he plays variant v. Weights are
held in thousandths and a sample's worth in hundredths: sums of integers are the same in any order.

By margins a sample is worth ``(1 + clip(own - best rival, -c, c) / c) / 2``: a program that moves
it towards the right class is told from one that does not, before it gets there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from suture.engine.threads import compiled
from suture.repairs.defensyn.encoding import Encoded
from suture.repairs.defensyn.kernels import score_weighted
from suture.repairs.defensyn.scoring import HeadProblem, Samples, Scores, sorted_by_label

WEIGHT = 1_000
"""What a sample of weight 1 counts."""
WORTH = 100
"""What a sample that is right counts."""


@dataclass(frozen=True, eq=False)
class WeightedSamples(Samples):
    """Samples with weights.

    Attributes:
        weights: float ``(n,)``, of each row; the attacked ones of one image add up to 1.
        cap: c, margins beyond which nothing more is won; 0 counts right samples.
    """

    weights: Tensor
    cap: float = 0.0

    def gains(self) -> tuple[Tensor, Tensor]:
        """int64 ``(n,)``: weights of attacked and of clean rows, 0 for the others."""
        weights = (self.weights * WEIGHT).round().long()
        attacked = torch.arange(len(weights), device=weights.device) < self.adversarial
        return weights * attacked, weights * ~attacked


@dataclass(frozen=True, eq=False)
class WeightedLinear:
    """A linear head and weighted samples, laid out for the compiled scorer.

    Attributes:
        weight, values, logits, groups: as ``LinearProblem`` has them.
        gains, cleans: int64 ``(n,)``, of attacked and of clean samples.
        cap: see ``WeightedSamples``.
    """

    weight: NDArray[np.float32]
    values: NDArray[np.float32]
    logits: NDArray[np.float32]
    groups: NDArray[np.int64]
    gains: NDArray[np.int64]
    cleans: NDArray[np.int64]
    cap: float

    @staticmethod
    def of(head: nn.Linear, samples: WeightedSamples) -> WeightedLinear:
        """Sort the samples by label, and compute their logits once (in float64)."""
        weight, features, logits, labels, _ = sorted_by_label(head, samples)
        order = samples.labels.cpu().sort(stable=True).indices
        gains, cleans = (part.cpu()[order].numpy() for part in samples.gains())
        return WeightedLinear(
            weight=np.ascontiguousarray(weight.numpy()),
            values=np.ascontiguousarray(features.numpy().T),
            logits=np.ascontiguousarray(logits.numpy().T),
            groups=torch.searchsorted(labels, torch.arange(len(weight) + 1)).numpy(),
            gains=gains,
            cleans=cleans,
            cap=samples.cap,
        )

    def score(self, programs: Encoded) -> Scores:
        """Weighted sums for every program; the same numbers on any number of threads."""
        scores = _nothing(len(programs))
        arrays = (self.weight, self.values, self.logits, self.groups, self.gains, self.cleans)
        found = (scores.adversarial, scores.clean, scores.valid)
        with compiled():
            score_weighted(*arrays, np.float32(self.cap), *programs.arrays, *found)
        return scores


@dataclass(frozen=True, eq=False)
class WeightedHead(HeadProblem):
    """Any head, weighted samples; ``samples`` are ``WeightedSamples``."""

    samples: WeightedSamples

    def score(self, programs: Encoded) -> Scores:
        """Weighted sums for every program."""
        scores = _nothing(len(programs))
        group = max(1, self.rows // len(self.samples.labels))
        for start in range(0, len(programs), group):
            self._score(programs, range(start, min(start + group, len(programs))), scores)
        return scores

    def _score(self, programs: Encoded, span: range, scores: Scores) -> None:
        labels, rows = self.samples.labels, slice(span.start, span.stop)
        values, finite = self._run(programs, span)
        with torch.no_grad():
            logits = self.head(values.flatten(0, 1)).unflatten(0, (len(span), len(labels)))
        gained = worth(logits, labels, self.samples.cap) * finite[:, None]
        gains, cleans = self.samples.gains()
        scores.valid[rows] = finite.cpu().numpy()
        scores.adversarial[rows] = (gained * gains).sum(1).cpu().numpy()
        scores.clean[rows] = (gained * cleans).sum(1).cpu().numpy()


def worth(logits: Tensor, labels: Tensor, cap: float) -> Tensor:
    """int64 ``(p, n)`` in hundredths: what each sample is worth under each program.

    Args:
        logits: ``(p, n, classes)``.
        cap: see ``WeightedSamples``.
    """
    if cap <= 0:
        return (logits.argmax(2) == labels) * WORTH
    index = labels.expand(len(logits), -1)[:, :, None]
    own = logits.gather(2, index)[:, :, 0]
    rival = logits.scatter(2, index, float("-inf")).amax(2)
    share = ((own - rival) / cap).nan_to_num(-1.0).clamp(-1, 1)
    return ((share + 1) * (WORTH / 2)).long()


def weighted_problem_of(
    head: nn.Module, linear: nn.Linear | None, samples: WeightedSamples
) -> WeightedLinear | WeightedHead:
    """How to score programs before this head: compiled on the CPU if it is linear."""
    if linear is None or samples.features.is_cuda:
        return WeightedHead(head, samples)
    return WeightedLinear.of(linear, samples)


def _nothing(count: int) -> Scores:
    zeros = np.zeros((2, count), np.int64)
    return Scores(zeros[0], zeros[1], np.ones(count, bool))  # type: ignore[arg-type]
