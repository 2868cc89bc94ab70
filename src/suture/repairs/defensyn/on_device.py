"""Scoring programs before a linear head where the features lie: on a CUDA device."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from suture.repairs.defensyn.encoding import Encoded
from suture.repairs.defensyn.scoring import (
    HeadProblem,
    LinearProblem,
    Samples,
    Scores,
    sorted_by_label,
)

_SAMPLES, _CLASSES = 128, 16
"""Samples and classes of a tile: logits of 2 048 pairs are in work at a time."""


@dataclass(frozen=True, eq=False)
class DeviceProblem:
    """A linear head and samples as the Triton kernel reads them; all tensors on one device.

    The counts equal ``LinearProblem``'s, bit for bit.

    Attributes:
        values: float32 ``(m, n)``, samples sorted by label.
        weight: float32 ``(m, classes)``: the head's, by feature.
        logits: float32 ``(classes, n)``, of the unrepaired head.
        labels: int32 ``(n,)``.
        attacked: int32 ``(n,)``, 1 for adversarial samples.
    """

    values: Tensor
    weight: Tensor
    logits: Tensor
    labels: Tensor
    attacked: Tensor

    @staticmethod
    def of(head: nn.Linear, samples: Samples) -> DeviceProblem:
        """On the device of the features."""
        weight, features, logits, labels, attacked = sorted_by_label(head, samples)
        device = samples.features.device
        made = (features.T, weight.T, logits.T, labels.int(), attacked.int())
        return DeviceProblem(*(tensor.contiguous().to(device) for tensor in made))

    def score(self, programs: Encoded) -> Scores:
        """Counts for every program."""
        from suture.repairs.defensyn import device_kernel

        count, length = programs.target.shape
        device, (classes, n) = self.values.device, self.logits.shape
        given = [torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in programs.arrays]
        found = torch.zeros((3, count), dtype=torch.int32, device=device)
        own = (self.values, self.weight, self.logits, self.labels, self.attacked)
        launch: Any = device_kernel.score[(count,)]
        launch(
            *own,
            *given,
            *found,
            n,
            classes,
            length,
            STEPS=max(2, 1 << (length - 1).bit_length()),
            SAMPLES=_SAMPLES,
            CLASSES=_CLASSES,
            enable_fp_fusion=False,
        )
        adversarial, clean, valid = found.cpu().numpy()
        return Scores(adversarial, clean, valid.astype(bool))


def problem_of(
    head: nn.Module, linear: nn.Linear | None, samples: Samples
) -> LinearProblem | DeviceProblem | HeadProblem:
    """How to score programs before this head.

    Compiled for the CPU or, where the features lie on a CUDA device and Triton is installed, for
    that device; heads that are not linear run on many programs at a time, on either.
    """
    if linear is None:
        return HeadProblem(head, samples)
    if samples.features.is_cuda and importlib.util.find_spec("triton") is not None:
        return DeviceProblem.of(linear, samples)
    return LinearProblem.of(linear, samples)
