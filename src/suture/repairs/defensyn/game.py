"""A double oracle for programs against an attacker who knows them (McMahan et al. 2003).

Round by round: the linear program mixes the programs found so far against the attacked images
found so far; the attacker answers the mixture, and his images join; the search answers the
attacker's mixture of images, and its programs join. The linear program's value is what the
programs found can keep against the images found; the value under the fresh attack is what the
mixture does keep of the training images. Where the two meet nothing is left to be found by these
two oracles.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from suture.models import Cut
from suture.repairs.defensyn.defended import DefendedClassifier
from suture.repairs.defensyn.language import Program, parse
from suture.repairs.defensyn.mixture import Mixture, Payoff, best_among
from suture.repairs.defensyn.weighted import WeightedSamples
from suture.types import Batch

IDENTITY = parse("v0 = v0")
"""The program that changes nothing: the classifier as it was."""
IDLE = 5
"""Rounds that a program may go without weight before the linear program leaves it out."""
CHUNK = 4_096
"""Feature vectors judged at a time; a matter of memory."""

Attacker = Callable[[DefendedClassifier, int], Batch]
"""Images that answer a mixture, in the order of the training images; rounds have numbers."""
Defender = Callable[[WeightedSamples, tuple[Program, ...], int], list[Program]]
"""Programs that answer weighted images; the mixture's programs, and the round."""


@dataclass(eq=False)
class Board:
    """Programs and variants found so far, and who is right on what.

    Args:
        parts: the classifier, cut.
        clean: training images: each is the first variant of itself.
        programs: found so far, the identity first.
        round: now.

    Attributes:
        features, image: of the variants, ``(v, m)`` and whose they are.
        right: bool ``(programs, variants)``.
        used: the last round in which each program had weight, or joined.
    """

    parts: Cut
    clean: Batch
    programs: list[Program] = field(default_factory=list)
    round: int = 0

    def __post_init__(self) -> None:
        n = len(self.clean)
        self.features = self._encoded(self.clean.images)
        self.image = torch.arange(n, device=self.features.device)
        self.right = np.zeros((0, n), bool)
        self.used = np.zeros(0, np.int64)

    @property
    def n(self) -> int:
        """Training images."""
        return len(self.clean)

    @property
    def labels(self) -> Tensor:
        """Of the variants."""
        return self.clean.labels.to(self.image.device)[self.image]

    def payoff(self) -> Payoff:
        """As the linear program takes it."""
        return Payoff(self.right, self.image.cpu().numpy(), self.right[:, : self.n])

    def add_programs(self, programs: list[Program]) -> None:
        """Judge new programs on all variants."""
        known = set(self.programs)
        fresh = [p for p in dict.fromkeys(programs) if p not in known]
        if fresh:
            judged = self._right(tuple(fresh), self.features, self.labels)
            self.programs += fresh
            self.right = np.concatenate([self.right, judged])
            self.used = np.append(self.used, np.full(len(fresh), self.round))

    def mixed(self, clean: float, most: int) -> Mixture:
        """The best mixture of programs that had weight or joined in the last rounds."""
        awake = self.round - self.used <= IDLE
        awake[0] = True
        found = best_among(self.payoff(), np.flatnonzero(awake), clean, most)
        self.used[found.weights > 0] = self.round
        return found

    def add_variants(self, images: Tensor) -> None:
        """Judge all programs on one more variant of every image."""
        features = self._encoded(images)
        labels = self.labels[: self.n]
        judged = self._right(tuple(self.programs), features, labels)
        self.features = torch.cat([self.features, features])
        self.image = torch.cat([self.image, self.image[: self.n]])
        self.right = np.concatenate([self.right, judged], 1)

    def classifier(self, weights: NDArray[np.float64]) -> tuple[DefendedClassifier, list[int]]:
        """The defended classifier of a mixture, heaviest program first, and its programs' rows."""
        rows = [int(r) for r in np.argsort(-weights, kind="stable") if weights[r] > 0]
        programs = tuple(self.programs[row] for row in rows)
        odds = tuple(float(weights[row]) for row in rows)
        made = DefendedClassifier(
            self.parts.encoder,
            self.parts.head,
            programs,
            self.parts.features,
            odds if len(rows) > 1 else None,
        )
        return made.eval(), rows

    def samples(self, attacker: NDArray[np.float64], cap: float) -> WeightedSamples:
        """What the next programs are scored on: variants that are played, then clean images."""
        played = torch.from_numpy(np.flatnonzero(attacker > 5e-4))
        rows = torch.cat([played, torch.arange(self.n)]).to(self.image.device)
        weights = torch.cat([torch.from_numpy(attacker)[played], torch.ones(self.n)])
        labels, features = self.labels[rows], self.features[rows]
        return WeightedSamples(features, labels, len(played), weights.to(features), cap)

    def margin(self) -> float:
        """Median of the clean images' margins without a program: a unit for margins."""
        with torch.no_grad():
            logits = self.parts.head(self.features[: self.n])
        labels = self.labels[: self.n, None]
        own = logits.gather(1, labels)[:, 0]
        return float((own - logits.scatter(1, labels, float("-inf")).amax(1)).abs().median())

    def _encoded(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([self.parts.encoder(piece) for piece in images.split(256)])

    def _right(
        self, programs: tuple[Program, ...], features: Tensor, labels: Tensor
    ) -> NDArray[np.bool_]:
        """Bool ``(programs, rows)``; values that are not finite are wrong."""
        bank = DefendedClassifier(
            self.parts.encoder, self.parts.head, programs, self.parts.features
        )
        parts = []
        with torch.no_grad():
            for values, own in zip(features.split(CHUNK), labels.split(CHUNK), strict=True):
                logits = bank.each_on(values)
                right = (logits.argmax(2) == own) & torch.isfinite(logits).all(2)
                parts.append(right.cpu().numpy())
        return np.concatenate(parts, 1)


@dataclass(frozen=True, eq=False)
class Played:
    """What the game came to.

    Attributes:
        weights: over the board's programs, of the mixture that keeps most of the training images
            against all that was ever found; of equals the first.
        kept: share of the images that it keeps against all that.
        lines: one a round.
        converged: whether the two values met.
        stopped: whether time ran out.
    """

    weights: NDArray[np.float64]
    kept: float
    lines: list[dict[str, Any]]
    converged: bool
    stopped: bool


@dataclass(frozen=True, eq=False)
class DoubleOracle:
    """The two oracles and when to stop.

    Attributes:
        attacker, defender: the oracles.
        rounds: at most.
        most: programs in a mixture, at most.
        limit: share of clean images that may be lost.
        tolerance: difference of the two values at which the game is over.
        cap: of margins that programs are scored by; 0 for counts.
        until: monotonic time after which no round begins; ``None`` for no limit.
    """

    attacker: Attacker
    defender: Defender
    rounds: int
    most: int
    limit: float
    tolerance: float
    cap: float
    until: float | None = None

    def play(self, board: Board) -> Played:
        """From the identity alone; round 0 is the attack on the undefended classifier."""
        board.add_programs([IDENTITY])
        clean = board.payoff().cleanly(np.ones(1)) - self.limit
        played: list[NDArray[np.float64]] = []
        lines: list[dict[str, Any]] = []
        stopped, over = False, False
        mixture = Mixture(np.ones(1), 1.0, np.ones(board.n))
        for number in range(self.rounds + 1):
            stopped = self.until is not None and time.monotonic() > self.until
            if over or (stopped and number):
                break
            started, line = time.monotonic(), {"round": number}
            board.round = number
            if number:
                mixture = self._answered(board, mixture, clean, number)
            line |= self._attacked(board, mixture, number)
            played.append(mixture.weights)
            over = bool(number) and line["value"] - line["attacked"] <= self.tolerance
            mixture = board.mixed(clean, self.most)
            lines.append(line | {"seconds": round(time.monotonic() - started, 3)})
        weights, kept = _best(board.payoff(), played)
        return Played(weights, kept, lines, over, stopped and not over)

    def _answered(self, board: Board, mixture: Mixture, clean: float, number: int) -> Mixture:
        """The defender's turn: programs against the attacker's images, and a new mixture."""
        samples = board.samples(mixture.attacker, self.cap)
        rows = np.argsort(-mixture.weights, kind="stable")
        held = tuple(board.programs[r] for r in rows if mixture.weights[r] > 0)
        board.add_programs(self.defender(samples, held, number))
        return board.mixed(clean, self.most)

    def _attacked(self, board: Board, mixture: Mixture, number: int) -> dict[str, Any]:
        """The attacker's turn, and what it leaves."""
        model, rows = board.classifier(mixture.weights)
        board.add_variants(self.attacker(model, number).images)
        payoff = board.payoff()
        return {
            "programs": len(board.programs),
            "support": len(rows),
            "longest": max(len(board.programs[row]) for row in rows),
            "value": round(mixture.value, 6),
            "attacked": round(float(payoff.kept(mixture.weights).mean()), 6),
            "clean": round(payoff.cleanly(mixture.weights), 6),
            "variants": payoff.right.shape[1],
        }


def _best(payoff: Payoff, played: list[NDArray[np.float64]]) -> tuple[NDArray[np.float64], float]:
    """The mixture that keeps most against all variants; later programs have no weight in it."""
    wide = [np.pad(weights, (0, len(payoff.right) - len(weights))) for weights in played]
    kept = [float(payoff.kept(weights).mean()) for weights in wide]
    best = max(range(len(kept)), key=lambda index: (round(kept[index], 9), -index))
    return wide[best], kept[best]


def recounted(model: nn.Module, board: Board, rows: list[int]) -> int:
    """Variants on which the deployed module and the board disagree, over all of its programs."""
    wrong = 0
    labels = board.labels
    with torch.no_grad():
        for index, row in enumerate(rows):
            one: Any = model
            logits = torch.cat(
                [
                    one.head(one.bank(values, torch.full((len(values),), index)))
                    for values in board.features.split(CHUNK)
                ]
            )
            right = (logits.argmax(1) == labels).cpu().numpy()
            wrong += int((right != board.right[row]).sum())
    return wrong
