"""Programs scored per second against the plain PyTorch loop: m = 512, 10 classes, 1 500 samples.

Feature vectors are those of a ReLU layer (half of them zero); the head is linear. The reference
runs each program on all samples and multiplies by the whole head, one program at a time.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import harness
from suture.repairs.defensyn.sampling import Sampler
from suture.repairs.defensyn.scoring import LinearProblem, Samples, score_plain
from suture.rng import Stream

FEATURES, CLASSES, SAMPLES = 512, 10, 1_500
OURS, PLAIN = 40_000, 400


def rows() -> list[harness.Row]:
    """Lengths 1, 5 and 10."""
    head, samples = case()
    return [_row(head, samples, length) for length in (1, 5, 10)]


def case(classes: int = CLASSES) -> tuple[nn.Linear, Samples]:
    """A linear head and samples of about its own classes."""
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(FEATURES, classes)
    with torch.no_grad():
        head.weight.copy_(torch.randn(classes, FEATURES, generator=generator) * FEATURES**-0.5)
        head.bias.zero_()
        clean = torch.randn(SAMPLES // 2, FEATURES, generator=generator).relu()
        labels = head(clean).argmax(1)
        noise = torch.randn(clean.shape, generator=generator)
    features = torch.cat([(clean + noise / 2).relu(), clean])
    return head, Samples(features, torch.cat([labels, labels]), SAMPLES // 2)


def _row(head: nn.Linear, samples: Samples, length: int) -> harness.Row:
    problem = LinearProblem.of(head, samples)
    uniform = np.full(FEATURES, 1 / FEATURES)
    programs = Sampler(uniform, uniform, -30.0, 30.0, Stream(length)).draw(0, OURS, length)
    few = Sampler(uniform, uniform, -30.0, 30.0, Stream(length)).draw(0, PLAIN, length)
    row = harness.speedup(
        f"length={length}",
        lambda: problem.score(programs),
        lambda: score_plain(head, samples, few),
        named="a PyTorch loop over programs through the real head",
        work=OURS,
        reference_work=PLAIN,
        repeats=7,
    )
    row["programs_per_second"] = round(OURS / row["seconds"])
    row["reference_programs_per_second"] = round(PLAIN / row["reference_seconds"])
    return row
