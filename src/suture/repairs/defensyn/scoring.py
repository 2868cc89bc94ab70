"""How many training samples a program gets right: compiled for linear heads, plain for the rest.

With ``logits = W·v + b`` a program that writes s features changes the logits by
``Σ W[:, i]·(v'_i - v_i)``: s·classes multiply-adds per sample instead of m·classes. The cost of a
program of length L on N samples is about ``N·(L + s·classes)`` float32 operations on data that
stays in cache: features are stored one row per feature, samples sorted by label, so that every
inner loop runs over consecutive samples of one label.

``score_plain`` is the slow, obvious twin, and the path for heads that are not linear.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from suture.engine.threads import compiled
from suture.repairs.defensyn.encoding import Encoded
from suture.repairs.defensyn.execution import run_many, run_program
from suture.repairs.defensyn.kernels import score_linear


@dataclass(frozen=True, eq=False)
class Samples:
    """Feature vectors with labels: adversarial ones first.

    Attributes:
        features: float32 ``(n, m)``.
        labels: int64 ``(n,)``.
        adversarial: how many rows, from the top, are adversarial; the rest is clean.
    """

    features: Tensor
    labels: Tensor
    adversarial: int


@dataclass(frozen=True, eq=False)
class Scores:
    """Counts per program.

    Attributes:
        adversarial, clean: int32 ``(p,)``, samples classified right.
        valid: bool ``(p,)``, no instruction made a non-finite value on any sample.
    """

    adversarial: NDArray[np.int32]
    clean: NDArray[np.int32]
    valid: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LinearProblem:
    """A linear head and samples, laid out for the compiled scorer.

    Attributes:
        weight: float32 ``(classes, m)``.
        values: float32 ``(m, n)``, samples sorted by label.
        logits: float32 ``(classes, n)``, of the unrepaired head.
        groups: int64 ``(classes + 1,)``: where each label's samples start.
        attacked: int32 ``(n,)``, 1 for adversarial samples.
    """

    weight: NDArray[np.float32]
    values: NDArray[np.float32]
    logits: NDArray[np.float32]
    groups: NDArray[np.int64]
    attacked: NDArray[np.int32]

    @staticmethod
    def of(head: nn.Linear, samples: Samples) -> LinearProblem:
        """Sort the samples by label, and compute their logits once (in float64)."""
        weight = head.weight.detach().cpu()
        bias = torch.zeros(len(weight)) if head.bias is None else head.bias.detach().cpu()
        labels, order = samples.labels.cpu().sort(stable=True)
        features = samples.features.detach().cpu()[order]
        logits = features.double() @ weight.double().T + bias.double()
        starts = torch.searchsorted(labels, torch.arange(len(weight) + 1))
        return LinearProblem(
            weight=np.ascontiguousarray(weight.float().numpy()),
            values=np.ascontiguousarray(features.float().numpy().T),
            logits=np.ascontiguousarray(logits.float().numpy().T),
            groups=starts.numpy(),
            attacked=(order < samples.adversarial).numpy().astype(np.int32),
        )

    def score(self, programs: Encoded) -> Scores:
        """Counts for every program; the same numbers on any number of threads."""
        scores = _no_scores(len(programs))
        arrays = (self.weight, self.values, self.logits, self.groups, self.attacked)
        with compiled():
            score_linear(*arrays, *programs.arrays, scores.adversarial, scores.clean, scores.valid)
        return scores


@dataclass(frozen=True, eq=False)
class HeadProblem:
    """Any head: many programs at a time run on the features, and the head on all of theirs.

    Everything happens on the features' device.

    Attributes:
        head: features ``(n, m)`` to logits ``(n, classes)``.
        rows: feature vectors per forward of the head; a matter of memory.
    """

    head: nn.Module
    samples: Samples
    rows: int = 65_536

    def score(self, programs: Encoded) -> Scores:
        """Counts for every program."""
        scores = _no_scores(len(programs))
        group = max(1, self.rows // len(self.samples.labels))
        for start in range(0, len(programs), group):
            self._score(programs, range(start, min(start + group, len(programs))), scores)
        return scores

    def _score(self, programs: Encoded, span: range, scores: Scores) -> None:
        features, labels = self.samples.features, self.samples.labels
        rows = slice(span.start, span.stop)
        values, finite = run_many(_tensors(programs, rows, features.device), features)
        with torch.no_grad():
            logits = self.head(values.flatten(0, 1))
        right = logits.argmax(1).reshape(len(span), len(labels)) == labels
        right &= finite[:, None]
        adversarial = self.samples.adversarial
        scores.valid[rows] = finite.cpu().numpy()
        scores.adversarial[rows] = right[:, :adversarial].sum(1).cpu().numpy()
        scores.clean[rows] = right[:, adversarial:].sum(1).cpu().numpy()


def _tensors(programs: Encoded, rows: slice, device: torch.device) -> tuple[Tensor, ...]:
    """Some programs as tensors; indices in int64, as gathers want them."""
    arrays = [torch.from_numpy(array[rows]).to(device) for array in programs.arrays]
    return tuple(a if a.is_floating_point() else a.long() for a in arrays)


def _no_scores(count: int) -> Scores:
    return Scores(np.zeros(count, np.int32), np.zeros(count, np.int32), np.ones(count, bool))


def score_plain(head: nn.Module, samples: Samples, programs: Encoded) -> Scores:
    """The same counts by running each program and the real head, one program at a time."""
    scores = _no_scores(len(programs))
    with torch.no_grad():
        for row in range(len(programs)):
            values, finite = run_program(programs.program(row), samples.features)
            scores.valid[row] = finite
            if finite:
                right = head(values).argmax(1) == samples.labels
                scores.adversarial[row] = int(right[: samples.adversarial].sum())
                scores.clean[row] = int(right[samples.adversarial :].sum())
    return scores
