"""DefEnSyn against the true attacker: a mixture of programs from a zero-sum game.

The paper's programs are made against an attack on the undefended network. Here every program has
to withstand whoever knows all of them and the odds of each: see ``game``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from suture.attacks import PGD, Attack
from suture.errors import require
from suture.models import Cut, cut, digest, head_is_linear
from suture.repairs.base import REPAIRS, Repair
from suture.repairs.context import Context
from suture.repairs.defensyn.bundling import describe
from suture.repairs.defensyn.defended import DefendedClassifier
from suture.repairs.defensyn.descending import AffineSteps
from suture.repairs.defensyn.game import IDENTITY, Board, DoubleOracle, Played, recounted
from suture.repairs.defensyn.gathering import attacked
from suture.repairs.defensyn.language import Program, parse
from suture.repairs.defensyn.refining import Refining
from suture.repairs.defensyn.scratch import with_scratch
from suture.repairs.defensyn.synthesis import SynthesisSearch
from suture.repairs.defensyn.to_the_end import game_attacks
from suture.repairs.defensyn.weighted import WeightedSamples, weighted_problem_of
from suture.repairs.result import RepairResult, Status
from suture.types import Batch, LabelledImages


@REPAIRS.add("defensyn-game")
@dataclass(frozen=True, kw_only=True)
class DefEnSynGame(Repair):
    """A mixture of programs against an attacker who knows programs and odds (ours; McMahan 2003).

    Args:
        attack: what the attacker runs on every mixture, with exact means; beside one that follows
            no gradient he runs PGD in the same ball.
        samples: training images used, drawn from the data by the seed.
        rounds: of the game, at most.
        k: programs in the mixture, at most. 1 gives a deterministic classifier.
        added: programs that join in a round.
        max_length: instructions that a search adds, at most.
        longest: programs of the mixture are gone on from, up to so many instructions; 0 starts
            every program anew.
        programs_per_length: programs drawn for each length.
        lambda_: weight of a clean image in the score; an image's attacked variants have 1.
        limit: points of clean accuracy on the training images that the mixture may lose.
        tolerance: the game is over where the linear program's value and the value under a fresh
            attack are that close, in points.
        margins: 0 scores programs by counts; above, by margins clipped at so many medians of the
            clean images' margins.
        affine: steps ``v_i = v_i + b·v_k`` that programs of the mixture are gone on by in a round,
            down the gradient of the cross entropy; with a scratch feature for them. 0 for none.
        refine: turns of local search over the constants of the programs found.
        improve: a search ends when the sum of its best grows by a smaller factor.
        constants: interval [l, u) of constants.
        temperature: of the softmax over mean scores, in images.
        at: where to cut, a layer name or "penultimate" (before the last layer).
        minutes: no round begins after so much time; ``None`` for no limit. Results under a time
            limit depend on the machine.
    """

    attack: Attack = field(default_factory=lambda: PGD(steps=20, restarts=3, loss="spread"))
    samples: int = 750
    rounds: int = 25
    k: int = 30
    added: int = 30
    max_length: int = 2
    longest: int = 60
    programs_per_length: int = 10_000
    lambda_: float = 1.0
    limit: float = 10.0
    tolerance: float = 0.1
    margins: float = 0.0
    affine: int = 0
    refine: int = 10
    improve: float = 1.002
    constants: tuple[float, float] = (-30.0, 30.0)
    temperature: float = 20.0
    at: str = "penultimate"
    minutes: float | None = None

    def __post_init__(self) -> None:
        low, high = self.constants
        checks = {
            "samples, rounds, k, added >= 1": min(self.samples, self.rounds, self.k, self.added)
            >= 1,
            "max_length from 1 to 64": 1 <= self.max_length <= 64,
            "longest from 0 to 2000": 0 <= self.longest <= 2000,
            "programs_per_length >= added": self.programs_per_length >= self.added,
            "lambda_, limit, tolerance, margins, affine, refine >= 0": min(
                self.lambda_,
                self.limit,
                self.tolerance,
                self.margins,
                self.affine,
                self.refine,
            )
            >= 0,
            "constants (low, high) with low < high": low < high,
            "temperature > 0": self.temperature > 0,
            "minutes > 0, or None": self.minutes is None or self.minutes > 0,
        }
        require(checks, self, "See the documentation of DefEnSyn.")

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        started = time.monotonic()
        order = torch.randperm(len(data), generator=context.stream.child("samples").generator())
        clean = data[order[: self.samples]]
        parts = with_scratch(cut(model, at=self.at), self.scratch)
        board = Board(parts, clean)
        oracle = DoubleOracle(
            attacker=partial(self._attacker, clean, context),
            defender=partial(self._defender, parts, context, context.work(self, model, clean)),
            rounds=self.rounds,
            most=self.k,
            limit=self.limit / 100,
            tolerance=self.tolerance / 100,
            cap=self.margins * board.margin(),
            until=None if self.minutes is None else started + 60 * self.minutes,
        )
        played = oracle.play(board)
        return self._told(model, board, played, started)

    @property
    def scratch(self) -> int:
        """Features for intermediate values."""
        return 1 if self.affine else 0

    def _told(self, model: nn.Module, board: Board, played: Played, started: float) -> RepairResult:
        made, rows = board.classifier(played.weights)
        describe(made, model, self.at, self.scratch)
        facts = {
            "samples": board.n,
            "adversarial": board.n,
            "features": board.parts.features,
            "lambda": self.lambda_,
        }
        programs = _programs(board, played, rows)
        first = played.lines[0]["attacked"]
        trace = {
            **facts,
            "game": played.lines,
            "kept": round(played.kept, 6),
            "unrepaired_adversarial_right": round(first * board.n),
            "converged": played.converged,
            "programs": programs,
            "rescored_disagreements": recounted(made, board, rows),
            "seconds": round(time.monotonic() - started, 3),
        }
        made.train(model.training)
        status = Status.PARTLY if played.kept > first else Status.UNCHANGED
        status = Status.OUT_OF_TIME if played.stopped else status
        kept = {"kind": "defensyn", **facts, "programs": programs}
        return RepairResult(made, status, trace, artifacts={"programs": kept})

    def _attacker(
        self, clean: Batch, context: Context, model: DefendedClassifier, number: int
    ) -> Batch:
        """Per image the answer of the attack that leaves most programs wrong."""
        what = f"training images, round {number}"
        found = attacked(game_attacks(self.attack), model, clean, context.child("game"), what)
        count = len(found.share) // len(clean)
        best = found.share.view(count, len(clean)).argmin(0)
        images = found.batch.images.unflatten(0, (count, len(clean)))
        return Batch(images[best, torch.arange(len(clean))], clean.labels)

    def _defender(
        self,
        parts: Cut,
        context: Context,
        work: str,
        samples: WeightedSamples,
        held: tuple[Program, ...],
        number: int,
    ) -> list[Program]:
        """The best programs against these images; a run keeps their texts."""
        stage = f"programs that join in round {number}"
        work = f"{work} {digest(samples.features)} {digest(samples.weights)} {held}"
        kept = context.engine.recall(stage, work)
        if kept is not None:
            return [parse(text) for text in kept]
        found = self._searched(parts, context, work, samples, held, number)
        context.engine.note(stage, [str(program) for program in found], work=work)
        return found

    def _searched(
        self,
        parts: Cut,
        context: Context,
        work: str,
        samples: WeightedSamples,
        held: tuple[Program, ...],
        number: int,
    ) -> list[Program]:
        """What the search finds, refined, and what grows by affine steps."""
        again = f" of round {number}"
        problem = weighted_problem_of(parts.head, head_is_linear(parts.head), samples)
        room = self.longest - self.max_length
        search = SynthesisSearch(
            scorer=problem.score,
            features=parts.features,
            k=self.added,
            lambda_=self.lambda_,
            improve=self.improve,
            temperature=self.temperature * UNIT,
            constants=self.constants,
            learned=True,
            stream=context.stream.child("programs").child(number),
            chunk=CHUNK,
            work=work,
            again=again,
            bases=tuple(program for program in held[:BASES] if len(program) <= room),
        )
        best = search.lengths(
            self.max_length,
            self.programs_per_length,
            context.engine,
            lambda length, *done: context.tell(f"programs of length {length}{again}", *done),
        )
        refining = Refining(problem.score, self.lambda_, self.refine)
        stream = context.stream.child("constants").child(number)
        found = refining([candidate.program for candidate in best], stream)
        if not self.affine:
            return found
        descent = AffineSteps(parts.head, samples, self.lambda_, self.affine, max(self.longest, 64))
        bases = [*held[: DESCENDED - 1], found[0] if number > 1 else IDENTITY]
        return found + descent(bases, context.stream.child("affine").child(number))


UNIT = 100_000
"""What one image of weight 1 that is right counts (``weighted``)."""
CHUNK = 5_000
"""Programs drawn, scored and summarised at a time."""
DESCENDED = 6
"""Programs that a descent goes on from in a round, at most."""
BASES = 12
"""Programs of the mixture that new ones go on from, at most."""


def _programs(board: Board, played: Played, rows: list[int]) -> list[dict[str, Any]]:
    """The mixture's programs as the trace holds them: counts of images, under their own worst."""
    payoff, lines = board.payoff(), []
    for row in rows:
        alone = np.zeros(len(payoff.right))
        alone[row] = 1.0
        program = board.programs[row]
        kept, clean = round(payoff.kept(alone).sum()), int(payoff.clean[row].sum())
        lines.append(
            {
                "text": str(program),
                "weight": float(played.weights[row]),
                "score": kept,
                "adversarial_right": kept,
                "clean_right": clean,
                "length": len(program),
                "writes": sorted(program.writes),
                "reads": sorted(program.reads),
            }
        )
    return lines
