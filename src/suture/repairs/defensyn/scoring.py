"""How many training samples a program gets right: compiled for linear heads, plain for the rest.

With ``logits = W·v + b`` a program that writes s features changes the logits by
``Σ W[:, i]·(v'_i - v_i)``: s·classes multiply-adds per sample instead of m·classes. The cost of a
program of length L on N samples is about ``N·(L + s·classes)`` float32 operations on data that
stays in cache: features are stored one row per feature, samples sorted by label, so that every
inner loop runs over consecutive samples of one label. From ``MANY`` classes on another kernel skips
rivals that cannot win (``many_classes``): the same counts, bit for bit.

``score_plain`` is the slow, obvious twin, and the path for heads that are not linear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from suture.engine.threads import compiled
from suture.repairs.defensyn.encoding import Encoded
from suture.repairs.defensyn.execution import run_many, run_program
from suture.repairs.defensyn.kernels import score_linear
from suture.repairs.defensyn.many_classes import score_many


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


MANY = 400
"""Classes from which on skipping pays, for programs of middling length (measured, one core)."""

LIKELY = 4
"""Rivals of every sample that are asked before all others."""


@dataclass(frozen=True, eq=False)
class Skipping:
    """The logits sample by sample, and each sample's likeliest winners.

    Attributes:
        logits: float32 ``(n, classes)``, of the unrepaired head.
        labels: int64 ``(n,)``.
        own: float32 ``(n,)``, the own class' logit.
        likely, heights: int32 and float32 ``(n, LIKELY)``, the best other classes, their logits.
        columns: float32 ``(m, classes)``, the head's weight by feature.
        most: float64 ``(m,)``, largest absolute weight of each feature.
        highest: largest absolute logit.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    own: NDArray[np.float32]
    likely: NDArray[np.int32]
    heights: NDArray[np.float32]
    columns: NDArray[np.float32]
    most: NDArray[np.float64]
    highest: float

    @staticmethod
    def of(weight: Tensor, logits: Tensor, labels: Tensor) -> Skipping:
        """Everything once; the samples are in the order of the problem."""
        others = logits.scatter(1, labels[:, None], float("-inf"))
        best = others.topk(min(LIKELY, logits.shape[1] - 1), dim=1)
        return Skipping(
            logits=np.ascontiguousarray(logits.numpy()),
            labels=labels.numpy(),
            own=logits.gather(1, labels[:, None])[:, 0].numpy(),
            likely=best.indices.int().numpy(),
            heights=best.values.numpy(),
            columns=np.ascontiguousarray(weight.numpy().T),
            most=weight.abs().amax(0).double().numpy(),
            highest=float(logits.abs().max()),
        )

    @property
    def arrays(self) -> tuple[Any, ...]:
        """In the order that the kernel takes them."""
        sample = (self.logits, self.labels, self.own, self.likely, self.heights)
        return (*sample, self.columns, self.most, self.highest)


@dataclass(frozen=True, eq=False)
class LinearProblem:
    """A linear head and samples, laid out for the compiled scorer.

    Attributes:
        weight: float32 ``(classes, m)``.
        values: float32 ``(m, n)``, samples sorted by label.
        logits: float32 ``(classes, n)``, of the unrepaired head.
        groups: int64 ``(classes + 1,)``: where each label's samples start.
        attacked: int32 ``(n,)``, 1 for adversarial samples.
        skipping: what the kernel for many classes needs; ``None`` for few.
    """

    weight: NDArray[np.float32]
    values: NDArray[np.float32]
    logits: NDArray[np.float32]
    groups: NDArray[np.int64]
    attacked: NDArray[np.int32]
    skipping: Skipping | None = None

    @staticmethod
    def of(head: nn.Linear, samples: Samples, *, many: int = MANY) -> LinearProblem:
        """Sort the samples by label, and compute their logits once (in float64).

        Args:
            many: number of classes from which on rivals that cannot win are skipped.
        """
        weight, features, logits, labels, attacked = sorted_by_label(head, samples)
        starts = torch.searchsorted(labels, torch.arange(len(weight) + 1))
        skips = len(weight) >= many
        return LinearProblem(
            skipping=Skipping.of(weight, logits, labels) if skips else None,
            weight=np.ascontiguousarray(weight.numpy()),
            values=np.ascontiguousarray(features.numpy().T),
            logits=np.ascontiguousarray(logits.numpy().T),
            groups=starts.numpy(),
            attacked=attacked.int().numpy(),
        )

    def score(self, programs: Encoded) -> Scores:
        """Counts for every program; the same numbers on any number of threads."""
        scores = _no_scores(len(programs))
        found = (*programs.arrays, scores.adversarial, scores.clean, scores.valid)
        arrays = (self.weight, self.values, self.logits, self.groups, self.attacked)
        with compiled():
            if self.skipping is None:
                score_linear(*arrays, *found)
            else:
                score_many(self.values, *self.skipping.arrays, self.attacked, *found)
        return scores


def sorted_by_label(head: nn.Linear, samples: Samples) -> tuple[Tensor, ...]:
    """Weight, features, logits of the unrepaired head, labels, and which rows are adversarial.

    On the CPU; floats are float32, the logits computed in float64.
    """
    weight = head.weight.detach().cpu()
    bias = torch.zeros(len(weight)) if head.bias is None else head.bias.detach().cpu()
    labels, order = samples.labels.cpu().sort(stable=True)
    features = samples.features.detach().cpu()[order]
    logits = features.double() @ weight.double().T + bias.double()
    attacked = order < samples.adversarial
    return weight.float(), features.float(), logits.float(), labels, attacked


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
    rows: int = 16_384

    def score(self, programs: Encoded) -> Scores:
        """Counts for every program."""
        scores = _no_scores(len(programs))
        group = max(1, self.rows // len(self.samples.labels))
        for start in range(0, len(programs), group):
            self._score(programs, range(start, min(start + group, len(programs))), scores)
        return scores

    def _score(self, programs: Encoded, span: range, scores: Scores) -> None:
        labels, rows = self.samples.labels, slice(span.start, span.stop)
        values, finite = self._run(programs, span)
        with torch.no_grad():
            logits = self.head(values.flatten(0, 1))
        right = logits.argmax(1).reshape(len(span), len(labels)) == labels
        right &= finite[:, None]
        adversarial = self.samples.adversarial
        scores.valid[rows] = finite.cpu().numpy()
        scores.adversarial[rows] = right[:, :adversarial].sum(1).cpu().numpy()
        scores.clean[rows] = right[:, adversarial:].sum(1).cpu().numpy()

    def _run(self, programs: Encoded, span: range) -> tuple[Tensor, Tensor]:
        """Repaired features ``(p, n, m)``, and which programs stayed finite.

        On the CPU many samples are work enough for one program at a time, which then touches only
        the columns that it needs.
        """
        features = self.samples.features
        if features.device.type == "cpu" and len(features) >= ALONE:
            runs = [run_program(programs.program(row), features) for row in span]
            return torch.stack([v for v, _ in runs]), torch.tensor([finite for _, finite in runs])
        rows = slice(span.start, span.stop)
        return run_many(_tensors(programs, rows, features.device), features)


ALONE = 512
"""Samples from which on the CPU runs programs one by one, and only the head on many."""


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
