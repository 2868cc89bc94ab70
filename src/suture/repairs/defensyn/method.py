"""DefEnSyn: synthesise short repair programs between encoder and head (Yuviler & Drachsler-Cohen).

Attack the training images, run both kinds through the encoder once, and search for programs that
make the head right on as many feature vectors as possible. The defended classifier draws one of
the best K programs for every input.

The paper's gain is measured against an attacker whose every query meets another program. Nearly all
of it is that attacker's confusion: always read the adaptive rows of the evaluation too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn

from suture.attacks import Attack, Square
from suture.errors import ArgumentError, require
from suture.models import Cut, cut, digest, head_is_linear
from suture.repairs.base import REPAIRS, Repair
from suture.repairs.context import Context
from suture.repairs.defensyn import winners
from suture.repairs.defensyn.bundling import describe
from suture.repairs.defensyn.defended import DefendedClassifier
from suture.repairs.defensyn.gathering import attacked, gather
from suture.repairs.defensyn.on_device import problem_of
from suture.repairs.defensyn.random_programs import RandomPrograms
from suture.repairs.defensyn.rounds import Rounds, SynthesisResult
from suture.repairs.defensyn.scoring import Samples
from suture.repairs.defensyn.synthesis import SynthesisSearch
from suture.repairs.result import RepairResult, Status
from suture.rng import Stream
from suture.types import Batch, LabelledImages

Distribution = Literal["learned", "uniform", "random"]


@REPAIRS.add("defensyn")
@dataclass(frozen=True, kw_only=True)
class DefEnSyn(Repair):
    """Repair by program synthesis; the defaults are the paper's (section 5).

    Args:
        attack: makes the adversarial training images.
        also: further attacks; programs are scored on what any of them makes of the images
            (section 2: the attack "can even combine multiple attacks").
        samples: training images used (``|D_Tr|``), drawn from the data by the seed.
        k: programs kept, and drawn from at inference. 1 gives a deterministic classifier, for
            attacks that do not depend on the input such as backdoors.
        max_length: longest program, in instructions.
        programs_per_length: programs drawn for each length.
        lambda_: weight of a clean sample in the score, an attacked one has 1.
        improve: stop when the sum of the top K grows by a smaller factor than this.
        constants: interval [l, u) of constants.
        distribution: "learned"; "uniform" for the paper's Uniform-DefEnSyn; "random" for its
            Random, which synthesises nothing: every input gets a fresh random program.
        temperature: of the softmax over mean scores. 1 is the paper's; it often collapses onto
            very few features (see the entropies in the trace), larger values keep more.
        at: where to cut, a layer name or "penultimate" (before the last layer).
        rounds: counterexample rounds (ours): attack the defended model as someone who knows its
            programs, add what succeeds, synthesise again, keep the better on held-out training
            images. 0 is the paper's.
        eot: draws that the attacker of these rounds averages where not all of them are known.
        held_out: training images beyond ``samples`` that the rounds choose by.
    """

    attack: Attack = field(default_factory=Square)
    also: tuple[Attack, ...] = ()
    samples: int = 750
    k: int = 30
    max_length: int = 10
    programs_per_length: int = 1_000_000
    lambda_: float = 1.0
    improve: float = 1.01
    constants: tuple[float, float] = (-30.0, 30.0)
    distribution: Distribution = "learned"
    temperature: float = 1.0
    at: str = "penultimate"
    rounds: int = 0
    eot: int = 10
    held_out: int = 250

    def __post_init__(self) -> None:
        low, high = self.constants
        known = ("learned", "uniform", "random")
        checks = {
            "samples >= 1": self.samples >= 1,
            "k >= 1": self.k >= 1,
            "max_length from 1 to 64": 1 <= self.max_length <= 64,
            "programs_per_length >= k": self.programs_per_length >= self.k,
            "lambda_ >= 0": self.lambda_ >= 0,
            "constants (low, high) with low < high": low < high,
            f"a distribution out of {known}": self.distribution in known,
            "temperature > 0": self.temperature > 0,
            "rounds >= 0, eot >= 1, held_out >= 1": min(self.rounds + 1, self.eot, self.held_out)
            >= 1,
            'no rounds with distribution "random"': self.distribution != "random"
            or not self.rounds,
        }
        require(checks, self, "See the documentation of DefEnSyn.")

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        if self.distribution == "random":
            return self._random(model)
        started = time.monotonic()
        clean, held_out = self._choose(data, context.stream)
        found = attacked((self.attack, *self.also), model, clean, context)
        facts = {
            "fooled": int(found.success.sum()),
            "attack_seconds": round(time.monotonic() - started, 3),
        }
        result = self.from_attacked(model, clean, found.batch, context, held_out=held_out)
        facts["seconds"] = round(time.monotonic() - started, 3)
        return replace(result, trace=result.trace | facts)

    def from_attacked(
        self,
        model: nn.Module,
        clean: Batch,
        adversarial: Batch,
        context: Context,
        *,
        held_out: Batch | None = None,
    ) -> RepairResult:
        """Repair from images that were attacked already; ``attack`` is for the rounds only.

        Args:
            model: classifier.
            clean: training images.
            adversarial: attacked images with their true classes, any number.
            context: ``Context.of(seed)``, and what else a repair works with.
            held_out: what the rounds choose by; needed where there are rounds.

        Raises:
            ArgumentError: rounds without held-out images.
        """
        if self.rounds and not (held_out is not None and len(held_out)):
            raise ArgumentError(
                expected=f"more than {self.samples} training images: the rounds choose by others",
                got=f"{len(clean)}, all of them used",
                remedy="Give more data, or lower samples.",
            )
        parts, started = cut(model, at=self.at), time.monotonic()
        work = context.work(self, model, clean)

        def synthesise(attacked: Batch, number: int) -> SynthesisResult:
            return self._synthesise(model, parts, clean, attacked, number, context, work)

        lines: list[dict[str, Any]] = []
        found = synthesise(adversarial, 0)
        if self.rounds and held_out is not None:
            attacks = (self.attack, *self.also)
            rounds = Rounds(synthesise, attacks, clean, held_out, self.rounds, self.eot, context)
            found, lines = rounds.run(found, adversarial)
        trace = found.trace | ({"rounds": lines} if lines else {})
        trace["seconds"] = round(time.monotonic() - started, 3)
        facts = {key: trace[key] for key in ("samples", "adversarial", "features", "lambda")}
        programs = {"kind": "defensyn", **facts, "programs": trace["programs"]}
        status = winners.status(trace)
        return RepairResult(found.model, status, trace, artifacts={"programs": programs})

    def _synthesise(
        self,
        model: nn.Module,
        parts: Cut,
        clean: Batch,
        adversarial: Batch,
        number: int,
        context: Context,
        work: str,
    ) -> SynthesisResult:
        """Algorithm 1 on these images; ``number`` 0 is the paper's, then come the rounds."""
        work = f"{work} {digest(adversarial.images)} {number}"
        again = f" of round {number}" if number else ""
        samples = gather(
            parts, clean, adversarial, engine=context.engine, stage=f"features{again}", work=work
        )
        search = self._search(parts, samples, context.stream.child("programs"), work, again)
        best = search.lengths(
            self.max_length,
            self.programs_per_length,
            context.engine,
            lambda length, *done: context.tell(f"programs of length {length}{again}", *done),
        )
        programs = tuple(candidate.program for candidate in best)
        defended = DefendedClassifier(parts.encoder, parts.head, programs, parts.features)
        defended.train(model.training)
        describe(defended, model, self.at)
        trace = {
            "samples": len(clean),
            "adversarial": len(adversarial),
            "features": parts.features,
            "lambda": self.lambda_,
            "lengths": search.trace,
            "programs": winners.rows(best),
            **winners.recheck(parts, samples, best),
        }
        return SynthesisResult(defended, trace)

    def _random(self, model: nn.Module) -> RepairResult:
        """The paper's Random: nothing is searched, nothing is known about the result."""
        parts = cut(model, at=self.at)
        made = RandomPrograms(
            parts.encoder, parts.head, parts.features, self.max_length, self.constants
        )
        describe(made.train(model.training), model, self.at)
        return RepairResult(made, Status.UNCHANGED, {"samples": 0, "features": parts.features})

    def _choose(self, data: LabelledImages, stream: Stream) -> tuple[Batch, Batch | None]:
        """``samples`` images of the data, drawn by the seed, and those that rounds choose by."""
        order = torch.randperm(len(data), generator=stream.child("samples").generator())
        rest = order[self.samples : self.samples + self.held_out]
        return data[order[: self.samples]], data[rest] if len(rest) and self.rounds else None

    def _search(
        self, parts: Cut, samples: Samples, stream: Stream, work: str, again: str
    ) -> SynthesisSearch:
        problem = problem_of(parts.head, head_is_linear(parts.head), samples)
        return SynthesisSearch(
            scorer=problem.score,
            features=parts.features,
            k=self.k,
            lambda_=self.lambda_,
            improve=self.improve,
            temperature=self.temperature,
            constants=self.constants,
            learned=self.distribution == "learned",
            stream=stream,
            work=work,
            again=again,
        )
