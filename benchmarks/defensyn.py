"""DefEnSyn at the paper's size, with 1 000 classes, and what a program costs at inference.

* full: the whole search, 10 lengths of 10⁶ programs, learned distributions, no early stop; m = 512,
  10 classes, 1 500 samples. The plain loop is extrapolated, length by length, from a few programs.
* classes=1000: 10⁵ programs of length 5 before a head with 1 000 classes.
* inference: the defended against the undefended ResNet-18, CIFAR-10's size, batches of 256.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

import harness
import scoring
from suture import models
from suture.repairs.defensyn import DefendedClassifier
from suture.repairs.defensyn.encoding import Encoded
from suture.repairs.defensyn.sampling import Sampler
from suture.repairs.defensyn.scoring import LinearProblem, score_plain
from suture.repairs.defensyn.synthesis import SynthesisSearch
from suture.rng import Stream

PROGRAMS, LENGTHS, FEW = 1_000_000, 10, 50
MANY_CLASSES, MANY_PROGRAMS, MANY_FEW = 1_000, 100_000, 40
BATCH, K = 256, 30
NAMED = "a PyTorch loop over programs through the real head"


def rows() -> list[harness.Row]:
    """The three cases."""
    return [full(), many_classes(), inference()]


def full() -> harness.Row:
    """The search as the paper runs it, once; the reference on ``FEW`` programs of each length."""
    head, samples = scoring.case()
    problem = LinearProblem.of(head, samples)
    problem.score(_programs(1, 10))  # compile

    def search() -> SynthesisSearch:
        return SynthesisSearch(
            scorer=problem.score, features=scoring.FEATURES, k=30, lambda_=1.0, improve=0.0,
            temperature=20.0, constants=(-30.0, 30.0), learned=True, stream=Stream(0),
        )  # fmt: skip

    search().lengths(2, 1_000, None, None)
    made = search()
    ours = harness.seconds(lambda: made.lengths(LENGTHS, PROGRAMS, None, None))
    few = [_programs(length, FEW) for length in range(1, LENGTHS + 1)]
    plain = [harness.seconds(partial(score_plain, head, samples, p)) / FEW for p in few]
    theirs = PROGRAMS * sum(plain)
    spread = [t * PROGRAMS / e["seconds"] for t, e in zip(plain, made.trace, strict=True)]
    return {
        "case": "full",
        "seconds": round(ours, 3),
        "speedup": round(theirs / ours, 2),
        "spread": [round(min(spread), 2), round(max(spread), 2)],
        "reference": f"{NAMED}, extrapolated from {FEW} programs of each length",
        "reference_seconds": round(theirs, 1),
        "programs": PROGRAMS * LENGTHS,
        "programs_per_second": round(PROGRAMS * LENGTHS / ours),
        "seconds_by_length": [e["seconds"] for e in made.trace],
        "entropy_left": [round(e["entropy_left"], 3) for e in made.trace],
    }


def many_classes() -> harness.Row:
    """Programs of length 5, 1 000 classes."""
    head, samples = scoring.case(MANY_CLASSES)
    problem = LinearProblem.of(head, samples)
    programs, few = _programs(5, MANY_PROGRAMS), _programs(5, MANY_FEW)
    return harness.speedup(
        f"classes={MANY_CLASSES}",
        lambda: problem.score(programs),
        lambda: score_plain(head, samples, few),
        named=NAMED,
        work=MANY_PROGRAMS,
        reference_work=MANY_FEW,
        repeats=3,
        programs=MANY_PROGRAMS,
    )


def inference() -> harness.Row:
    """One forward of a batch, with 30 programs of length 10 and without any."""
    parts = models.cut(models.build("resnet18"))
    encoded = _programs(10, K, parts.features)
    programs = tuple(encoded.program(row) for row in range(K))
    defended = DefendedClassifier(parts.encoder, parts.head, programs, parts.features).eval()
    plain = defended.undefended()
    images = torch.rand(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return harness.overhead(
            "inference",
            lambda: defended(images),
            lambda: plain(images),
            named="the undefended classifier",
            repeats=7,
            batch=BATCH,
            k=K,
        )


def _programs(length: int, count: int, features: int = scoring.FEATURES) -> Encoded:
    uniform = np.full(features, 1 / features)
    return Sampler(uniform, uniform, -30.0, 30.0, Stream(length)).draw(0, count, length)
