"""DefEnSyn: synthesise short repair programs between encoder and head (Yuviler & Drachsler-Cohen).

Attack the training images, run both kinds through the encoder once, and search for programs that
make the head right on as many feature vectors as possible. The defended classifier draws one of
the best K programs for every input.

The paper's gain is measured against an attacker whose every query meets another program. Much of
it is that attacker's confusion: always read the adaptive rows of the evaluation too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from suture.attacks import Attack, Square
from suture.attacks.spread import identity, spread
from suture.engine import Engine, Handle, Inline
from suture.errors import ArgumentError
from suture.models import Cut, cut, head_is_linear
from suture.repairs.base import OnProgress, Repair, RepairResult, Status
from suture.repairs.defensyn.bundling import describe
from suture.repairs.defensyn.defended import DefendedClassifier
from suture.repairs.defensyn.execution import ProgramBank
from suture.repairs.defensyn.scoring import HeadProblem, LinearProblem, Samples
from suture.repairs.defensyn.state import Candidate
from suture.repairs.defensyn.synthesis import Search
from suture.rng import Stream, as_stream
from suture.types import Batch


@dataclass(frozen=True, kw_only=True)
class DefEnSyn(Repair):
    """Repair by program synthesis; the defaults are the paper's (section 5).

    Args:
        attack: makes the adversarial training images.
        samples: training images used (``|D_Tr|``), drawn from the data by the seed.
        k: programs kept, and drawn from at inference. 1 gives a deterministic classifier, for
            attacks that do not depend on the input such as backdoors.
        max_length: longest program, in instructions.
        programs_per_length: programs drawn for each length.
        lambda_: weight of clean samples in the score.
        improve: stop when the sum of the top K grows by a smaller factor than this.
        constants: interval [l, u) of constants.
        distribution: "learned", or "uniform" for the paper's Uniform-DefEnSyn.
        temperature: of the softmax over mean scores. 1 is the paper's; it often collapses onto
            very few features (see the entropies in the trace), larger values keep more.
        at: where to cut, a layer name or "penultimate" (before the last layer).
    """

    attack: Attack = field(default_factory=Square)
    samples: int = 750
    k: int = 30
    max_length: int = 10
    programs_per_length: int = 1_000_000
    lambda_: float = 1.0
    improve: float = 1.01
    constants: tuple[float, float] = (-30.0, 30.0)
    distribution: Literal["learned", "uniform"] = "learned"
    temperature: float = 1.0
    at: str = "penultimate"

    def __post_init__(self) -> None:
        low, high = self.constants
        checks = {
            "samples >= 1": self.samples >= 1,
            "k >= 1": self.k >= 1,
            "max_length from 1 to 64": 1 <= self.max_length <= 64,
            "programs_per_length >= k": self.programs_per_length >= self.k,
            "lambda_ >= 0": self.lambda_ >= 0,
            "constants (low, high) with low < high": low < high,
            'distribution "learned" or "uniform"': self.distribution in ("learned", "uniform"),
            "temperature > 0": self.temperature > 0,
        }
        for expected, holds in checks.items():
            if not holds:
                raise ArgumentError(
                    expected=expected, got=repr(self), remedy="See the documentation of DefEnSyn."
                )

    def run(
        self,
        model: nn.Module,
        data: Batch,
        *,
        generator: torch.Generator | Stream | int | None = None,
        engine: Engine | None = None,
        batch_size: int = 256,
        on_progress: OnProgress | None = None,
    ) -> RepairResult:
        stream, tell = as_stream(generator), on_progress or (lambda *_: None)
        engine = engine or Inline(threads_per_item=None)
        started = time.monotonic()
        parts = cut(model, at=self.at)
        batch = self._choose(data, stream)
        attacked = spread(
            self.attack,
            model,
            batch,
            engine=engine,
            generator=stream.child("attack"),
            batch_size=batch_size,
            stage="training images",
            on_progress=lambda done, total: tell("attacking training images", done, total),
        )
        attack_seconds = time.monotonic() - started
        work = f"{self!r} {stream.key} {batch_size} {identity(model, batch)}"
        samples = _samples(parts, batch, attacked.images, engine, work)
        search = self._search(parts, samples, stream, work)
        best = search.lengths(
            self.max_length,
            self.programs_per_length,
            engine,
            lambda length, done, total: tell(f"programs of length {length}", done, total),
        )
        programs = tuple(candidate.program for candidate in best)
        defended = DefendedClassifier(parts.encoder, parts.head, programs, parts.features)
        defended.train(model.training)
        describe(defended, model, self.at)
        trace = {
            "samples": len(batch),
            "features": parts.features,
            "lambda": self.lambda_,
            "fooled": int(attacked.success.sum()),
            "attack_seconds": round(attack_seconds, 3),
            "seconds": round(time.monotonic() - started, 3),
            "lengths": search.trace,
            "programs": [_row(candidate) for candidate in best],
            **_recheck(parts, samples, best),
        }
        return RepairResult(defended, _status(trace), trace)

    def _choose(self, data: Batch, stream: Stream) -> Batch:
        """``samples`` images of the data, drawn by the seed; all of them if there are fewer."""
        order = torch.randperm(len(data), generator=stream.child("samples").generator())
        return data[order[: self.samples]]

    def _search(self, parts: Cut, samples: Samples, stream: Stream, work: str) -> Search:
        linear = head_is_linear(parts.head)
        problem = LinearProblem.of(linear, samples) if linear else HeadProblem(parts.head, samples)
        return Search(
            scorer=problem.score,
            features=parts.features,
            k=self.k,
            lambda_=self.lambda_,
            improve=self.improve,
            temperature=self.temperature,
            constants=self.constants,
            learned=self.distribution == "learned",
            stream=stream.child("programs"),
            work=work,
        )


def _samples(parts: Cut, batch: Batch, attacked: Tensor, engine: Engine, work: str) -> Samples:
    """Features of the attacked images, then of the clean ones."""
    pieces = [*attacked.split(256), *batch.images.split(256)]
    with engine.shared(parts.encoder) as handle:
        features = list(engine.keep("features", partial(_encode, handle), pieces, work=work))
    labels = torch.cat([batch.labels, batch.labels])
    values = torch.cat(features).to(batch.images.device)
    return Samples(values, labels.to(values.device), len(batch))


def _encode(encoder: Handle[nn.Module], images: Tensor) -> Tensor:
    with torch.no_grad():
        features: Tensor = encoder.get()(images)
    return features


def _recheck(parts: Cut, samples: Samples, best: list[Candidate]) -> dict[str, Any]:
    """Counts of the winners through the modules that will be deployed.

    The compiled scorer adds a change to stored logits, the modules multiply the whole matrix: a
    sample whose two best logits agree to the last bits may fall either way.
    """
    before = _right(parts.head, samples.features, samples)
    disagreements = 0
    for candidate in best:
        bank = ProgramBank((candidate.program,)).to(samples.features.device)
        values = bank(samples.features, torch.zeros_like(samples.labels))
        adversarial, clean = _right(parts.head, values, samples)
        disagreements += abs(adversarial - candidate.adversarial) + abs(clean - candidate.clean)
    return {
        "unrepaired_adversarial_right": before[0],
        "unrepaired_clean_right": before[1],
        "rescored_disagreements": disagreements,
    }


def _right(head: nn.Module, values: Tensor, samples: Samples) -> tuple[int, int]:
    """How many adversarial and how many clean samples the head gets right."""
    with torch.no_grad():
        right = head(values).argmax(1) == samples.labels
    return int(right[: samples.adversarial].sum()), int(right[samples.adversarial :].sum())


def _row(candidate: Candidate) -> dict[str, Any]:
    program = candidate.program
    return {
        "text": str(program),
        "score": candidate.score,
        "adversarial_right": candidate.adversarial,
        "clean_right": candidate.clean,
        "length": len(program),
        "writes": sorted(program.writes),
        "reads": sorted(program.reads),
    }


def _status(trace: dict[str, Any]) -> Status:
    """Judged on the training images: by the mean over the programs, one of which is drawn."""
    rows = trace["programs"]
    mean = sum(row["adversarial_right"] for row in rows) / len(rows)
    if mean == trace["samples"]:
        return Status.REPAIRED
    return Status.PARTLY if mean > trace["unrepaired_adversarial_right"] else Status.UNCHANGED
