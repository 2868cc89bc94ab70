"""The search for repair programs (DefEnSyn, Algorithm 1), length by length.

Programs within a length are independent. They are drawn and scored in chunks, and a chunk comes
back as a short summary: the best programs by set of repaired features, and integer sums per
feature. Summaries merge in order into the same state for any chunk size and number of workers.
Only the best K distinct sets are ever needed, so memory is O(K) beyond the features.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from suture.engine import Engine, Handle, Inline
from suture.repairs.defensyn.encoding import NOTHING, Encoded
from suture.repairs.defensyn.growing import GrowingSampler
from suture.repairs.defensyn.language import Program
from suture.repairs.defensyn.sampling import Sampler
from suture.repairs.defensyn.scoring import Scores
from suture.repairs.defensyn.serialisation import (
    candidates_from_plain,
    candidates_to_plain,
    summary_from_plain,
    summary_to_plain,
)
from suture.repairs.defensyn.state import Candidate, Summary, Sums
from suture.rng import Stream

Scorer = Callable[[Encoded], Scores]
OnLength = Callable[[int, int, int], None]
"""Called as ``on_length(length, programs scored, programs in all)``."""


def mean_scores(sums: NDArray[np.int64], lambda_: float) -> NDArray[np.float64]:
    """``S̄[i] = S[i] / Z[i]``, and 0 for features that no program used."""
    score = sums[:, 0] + lambda_ * sums[:, 1]
    return np.where(sums[:, 2] > 0, score / np.maximum(sums[:, 2], 1), 0.0)


def softmax(scores: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """``exp(s / T)``, normalised."""
    weights = np.exp((scores - scores.max()) / temperature)
    return weights / weights.sum()


def entropy(probabilities: NDArray[np.float64]) -> float:
    """Shannon entropy in nats; its exponential is the effective number of features."""
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum())


@dataclass(frozen=True, eq=False)
class ChunkTask:
    """Everything that a worker needs to draw, score and summarise a chunk."""

    scorer: Scorer
    sampler: Sampler | GrowingSampler
    length: int
    lambda_: float
    k: int

    def __call__(self, span: tuple[int, int]) -> Summary:
        start, count = span
        programs = self.sampler.draw(start, count, self.length)
        scores = self.scorer(programs)
        sums = Sums.zero(len(self.sampler.left))
        arrays = (programs.op, programs.target, programs.left, programs.right)
        counts = (scores.adversarial, scores.clean, scores.valid)
        _accumulate(*arrays, *counts, sums.left, sums.right)
        best = list(self._best(programs, scores, start))
        return Summary(best, sums, int((~scores.valid).sum()))

    def _best(self, programs: Encoded, scores: Scores, start: int) -> Iterator[Candidate]:
        """The best programs with K distinct sets of repaired features."""
        values = scores.adversarial + self.lambda_ * scores.clean
        values[~scores.valid] = -np.inf
        seen: set[frozenset[int]] = set()
        for row in np.argsort(-values, kind="stable"):
            writes = frozenset(programs.target[row][programs.op[row] != NOTHING].tolist())
            if not scores.valid[row] or len(seen) == self.k:
                return
            if writes not in seen:
                seen.add(writes)
                right, clean = int(scores.adversarial[row]), int(scores.clean[row])
                order = (self.length, start + int(row))
                yield Candidate(programs.program(int(row)), right, clean, float(values[row]), order)


@numba.njit(cache=True)
def _accumulate(op, target, left, right, adversarial, clean, valid, on_left, on_right):  # type: ignore[no-untyped-def]
    """Add each valid program's counts to every distinct feature of each side, once."""
    count, length = op.shape
    seen_left = np.full(len(on_left), -1, np.int64)
    seen_right = np.full(len(on_left), -1, np.int64)
    for row in range(count):
        if not valid[row]:
            continue
        for step in range(length):
            if op[row, step] == NOTHING:
                break
            if seen_left[target[row, step]] != row:
                seen_left[target[row, step]] = row
                _add(on_left, target[row, step], adversarial[row], clean[row])
            for index in (left[row, step], right[row, step]):
                if index != NOTHING and seen_right[index] != row:
                    seen_right[index] = row
                    _add(on_right, index, adversarial[row], clean[row])


@numba.njit(cache=True)
def _add(sums, index, adversarial, clean):  # type: ignore[no-untyped-def]
    sums[index, 0] += adversarial
    sums[index, 1] += clean
    sums[index, 2] += 1


@dataclass(eq=False)
class SynthesisSearch:
    """The state of Algorithm 1 between lengths.

    Args:
        scorer: counts for encoded programs.
        features: m, the number of features.
        k, lambda_, improve, temperature, constants: see ``DefEnSyn``.
        learned: update the distributions after each length (``False``: the Uniform variant).
        stream: seed of the programs.
        chunk: programs drawn, scored and summarised at a time.
        work: identity of the problem, for a run that keeps chunks and lengths.
        again: tells the stages of several searches in one run apart.
        bases: programs that new ones go on from; none for programs of their own.
    """

    scorer: Scorer
    features: int
    k: int
    lambda_: float
    improve: float
    temperature: float
    constants: tuple[float, float]
    learned: bool
    stream: Stream
    chunk: int = 20_000
    work: str = ""
    again: str = ""
    bases: tuple[Program, ...] = ()
    best: dict[frozenset[int], Candidate] = field(default_factory=dict)
    trace: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sums = Sums.zero(self.features)

    def lengths(
        self, longest: int, programs: int, engine: Engine | None, on_length: OnLength | None
    ) -> list[Candidate]:
        """Search lengths 1 … ``longest``; stop early when the top K improves too little."""
        engine, work = engine or Inline(threads_per_item=None), self._work(programs)
        for length in range(1, longest + 1):
            kept = engine.recall(self._after(length), work)
            if kept is None:
                self._length(length, programs, engine, on_length)
                state = self._to_plain()
                engine.note(self._after(length), state, work=work, instead_of=self._chunks(length))
            else:
                self._from_plain(kept)
            if length > 1 and self._gain() < self.improve:
                break
        return self.top()

    def _work(self, programs: int) -> str:
        """Says what is searched: two searches with the same text have the same results."""
        fields = (self.k, self.lambda_, self.temperature, self.constants, self.learned)
        return f"{self.work} {self.stream.key} {fields} {programs} {self.chunk} {self.bases}"

    def _to_plain(self) -> dict[str, Any]:
        """All that the next length depends on."""
        return {
            "best": candidates_to_plain(self.top()),
            "sums": [self.sums.left, self.sums.right],
            "trace": self.trace,
        }

    def _from_plain(self, value: dict[str, Any]) -> None:
        best = candidates_from_plain(value["best"])
        self.best = {candidate.program.writes: candidate for candidate in best}
        self.sums, self.trace = Sums(*value["sums"]), value["trace"]

    def _chunks(self, length: int) -> str:
        return f"programs of length {length}{self.again}"

    def _after(self, length: int) -> str:
        return f"after length {length}{self.again}"

    def top(self) -> list[Candidate]:
        """The best K programs so far, best first."""
        return sorted(self.best.values(), key=lambda candidate: candidate.rank)

    def _gain(self) -> float:
        """Σ top-K now over Σ top-K one length before."""
        before, now = (entry["top_k_sum"] for entry in self.trace[-2:])
        return float(now / before) if before > 0 else float("inf")

    def _length(
        self, length: int, programs: int, engine: Engine | None, on_length: OnLength | None
    ) -> None:
        engine = engine or Inline(threads_per_item=None)
        started, sampler = time.monotonic(), self._sampler(length)
        spans = [
            (start, min(self.chunk, programs - start)) for start in range(0, programs, self.chunk)
        ]
        discarded = 0
        task = ChunkTask(self.scorer, sampler, length, self.lambda_, self.k)
        with engine.shared(task) as shared:
            summaries = engine.keep(
                self._chunks(length),
                partial(_call, shared),
                spans,
                work=self._work(programs),
                pack=summary_to_plain,
                unpack=summary_from_plain,
            )
            for summary, (start, count) in zip(summaries, spans, strict=True):
                self._merge(summary)
                discarded += summary.discarded
                if on_length is not None:
                    on_length(length, start + count, programs)
        self.trace.append(self._entry(length, programs, discarded, sampler, started))

    def _sampler(self, length: int) -> Sampler | GrowingSampler:
        fresh = self._fresh(length)
        return GrowingSampler(fresh, self.bases) if self.bases else fresh

    def _fresh(self, length: int) -> Sampler:
        stream, (low, high) = self.stream.child(length), self.constants
        if not self.learned:
            uniform = np.full(self.features, 1.0 / self.features)
            return Sampler(uniform, uniform, low, high, stream)
        left = softmax(mean_scores(self.sums.left, self.lambda_), self.temperature)
        right = softmax(mean_scores(self.sums.right, self.lambda_), self.temperature)
        return Sampler(left, right, low, high, stream)

    def _merge(self, summary: Summary) -> None:
        self.sums.add(summary.sums)
        for candidate in summary.best:
            known = self.best.get(candidate.program.writes)
            if known is None or candidate.rank < known.rank:
                self.best[candidate.program.writes] = candidate
        self.best = {candidate.program.writes: candidate for candidate in self.top()[: self.k]}

    def _entry(
        self,
        length: int,
        programs: int,
        discarded: int,
        sampler: Sampler | GrowingSampler,
        started: float,
    ) -> dict[str, Any]:
        top = self.top()
        return {
            "length": length,
            "programs": programs,
            "discarded": discarded,
            "best": top[0].score if top else 0.0,
            "top_k_sum": sum(candidate.score for candidate in top),
            "top": [{"text": str(c.program), "score": c.score} for c in top],
            "entropy_left": entropy(sampler.left),
            "entropy_right": entropy(sampler.right),
            "seconds": round(time.monotonic() - started, 3),
        }


def _call(task: Handle[ChunkTask], span: tuple[int, int]) -> Summary:
    return task.get()(span)
