"""What every attack shares: validate, run, clip, and measure success by itself.

An attack's ``run`` proposes images. The base class moves them into the ball and into [0, 1] and
classifies them again: no attack is believed. Results for an image depend on that image, the
model, the parameters and the seed, and not on batch size, order, or other images.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from suture import notebook
from suture.attacks.against.candidates import Kept
from suture.attacks.geometry import project
from suture.attacks.oracle import Averaged, Oracle
from suture.data import batch_of
from suture.data.given import Data
from suture.errors import ArgumentError, ModelError
from suture.models import frozen, untouched
from suture.registry import Registry
from suture.rng import Stream, as_stream
from suture.types import (
    Batch,
    Knowledge,
    Norm,
    OnDone,
    ThreatModel,
    check_classes,
    check_linf,
    is_randomised,
)

_CLEAN, _FINAL = 0, 1
CHECKS = 2
"""Forwards per image that the base class itself spends: the clean image, and the final decision."""


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack found.

    Attributes:
        images: ``(n, c, h, w)``, inside the ball and [0, 1]; the clean image where none was found
            or none was needed.
        success: bool ``(n,)``: the final decision on ``images`` is wrong (targeted: the target).
        queries: int64 ``(n,)``: forwards the attack spent (0 for images wrong from the start).
        clean_right: bool ``(n,)``: the clean image was classified as its label.
        predictions: int64 ``(n,)``: the final decision.
        share: float ``(n,)``: share of the model's draws that still get the image right; of an
            ``adaptive`` attack over all that the model can draw, or over the common draws; else
            0 or 1, the final decision.
        checks: forwards per image spent by the base class on top of ``queries``.
        notes: what the attack warns about.
    """

    images: Tensor
    success: Tensor
    queries: Tensor
    clean_right: Tensor
    predictions: Tensor
    share: Tensor
    checks: int = CHECKS
    notes: tuple[str, ...] = ()

    @property
    def robust(self) -> Tensor:
        """Bool ``(n,)``: right on the clean image and still right on the attacked one."""
        return self.clean_right & ~self.success

    def _repr_html_(self) -> str:
        """For notebooks: what held, and what it cost."""
        n, spent = len(self.success), self.queries[self.clean_right & self.success]
        rows: dict[str, object] = {
            "clean accuracy": _share(int(self.clean_right.sum()), n),
            "robust accuracy": _share(int(self.robust.sum()), n),
        }
        rows |= {"median queries of successes": int(spent.median())} if len(spent) else {}
        rows |= {"note": " ".join(self.notes)} if self.notes else {}
        return notebook.facts("attack", rows)

    @staticmethod
    def concat(parts: list[AttackResult]) -> AttackResult:
        """The parts one after another."""
        return AttackResult(
            images=torch.cat([p.images for p in parts]),
            success=torch.cat([p.success for p in parts]),
            queries=torch.cat([p.queries for p in parts]),
            clean_right=torch.cat([p.clean_right for p in parts]),
            predictions=torch.cat([p.predictions for p in parts]),
            share=torch.cat([p.share for p in parts]),
            notes=tuple(dict.fromkeys(note for p in parts for note in p.notes)),
        )


def _share(right: int, n: int) -> str:
    return f"{100 * right / n:.1f} % ({right}/{n})"


ATTACKS: Registry[type[Attack]] = Registry("attack", "suture.attacks", "suture.attacks")
"""Name on the command line → attack; others join by an entry point ``suture.attacks``."""


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """An attack; its fields are its hyper-parameters, and go into every record.

    Args:
        norm: which norm bounds the perturbation.
        eps: radius, pixel values in [0, 1]; ``inf`` means only [0, 1] bounds it.
        eot: draws averaged per query (expectation over transformation, Athalye et al. 2018); each
            draw is a counted query. 1 for a deterministic model.
        eot_of: average the draws' "logits", or the "losses" of the draws.
        adaptive: the attacker knows the defence, and only its next draw is hidden from him. A
            query of a model with finitely many classifiers is the exact mean over them, that of
            another randomised model the mean over ``eot`` common draws; nothing is accepted
            because one draw or one average crossed the line: of all images asked about, the one
            that the smallest share of draws gets right is kept.
        budget: queries an image may spend, ``None`` for no limit. An image whose budget is spent
            stops where it is; the others go on.
        seconds: time an image may spend, as its share of the wall clock, ``None`` for no limit.
            Results under a time limit depend on the machine and are not reproducible.
    """

    norm: Norm = "linf"
    eps: float = 8 / 255
    eot: int = 1
    eot_of: Averaged = "logits"
    adaptive: bool = False
    budget: int | None = None
    seconds: float | None = None

    registry: ClassVar[Registry[type[Attack]]] = ATTACKS
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    knowledge: ClassVar[Knowledge] = "white-box"
    decisions_only: ClassVar[bool] = False
    """Whether a black-box attack looks at the class alone, not at scores."""
    can_target: ClassVar[bool] = True
    draws: ClassVar[bool] = True
    """Whether the attack draws at random, so that seeds matter."""
    independent: ClassVar[bool] = True
    """Whether an image's result depends on that image alone (given the model and the seed)."""

    def __post_init__(self) -> None:
        _require(self.norm in self.norms, f"norm in {self.norms}", f"norm={self.norm!r}")
        _require(self.eps >= 0, "eps >= 0, in pixel values of [0, 1]", f"eps={self.eps!r}")
        if self.norm == "linf":
            check_linf(self.eps)
        _require(self.eot >= 1, "eot >= 1", f"eot={self.eot!r}")
        averaged = self.eot_of in ("logits", "losses")
        _require(averaged, 'eot_of="logits" or "losses"', f"eot_of={self.eot_of!r}")
        enough = self.budget is None or self.budget >= self.eot
        _require(enough, "budget >= eot, or None", f"budget={self.budget!r}")
        time = self.seconds is None or self.seconds > 0
        _require(time, "seconds > 0, or None", f"seconds={self.seconds!r}")

    @abstractmethod
    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        """Propose adversarial images.

        Args:
            oracle: answers queries; knows goals and random streams.
            images: ``(k, c, h, w)``, clean images that the model still gets right.
            rows: int64 ``(k,)``, their rows in the oracle.

        Returns:
            ``(k, c, h, w)``; outside the ball or [0, 1] they will be moved back.
        """

    def __call__(
        self,
        model: nn.Module,
        batch: Batch | Data,
        *,
        generator: torch.Generator | Stream | int | None = None,
        targets: Tensor | None = None,
        transfer_from: nn.Module | None = None,
        batch_size: int = 256,
        on_progress: OnDone | None = None,
    ) -> AttackResult:
        """Attack each image of the batch.

        Args:
            model: classifier; its mode, its gradients and the global random state stay untouched.
            batch: clean images and their true classes; or ``(images, labels)``, a data loader, a
                data set, of which the test images are taken.
            generator: seed or stream; the same one gives the same result.
            targets: int64 ``(n,)``, a class to reach for each image; ``None`` for untargeted.
            transfer_from: attack this model (left as untouched) in place of ``model``, which then
                only measures; the queries are those of the attacked one. An ``adaptive`` attack
                measures every candidate on ``model`` and keeps the best.
            batch_size: images attacked at a time; a matter of memory, not of results.
            on_progress: called as ``on_progress(images finished, n)``.

        Raises:
            ArgumentError: bad targets, or targets for an attack that has none.
            ModelError: unusable logits.
            DataError: labels too large.
        """
        stream, batch = as_stream(generator), batch_of(batch)
        self._check_targets(targets, batch.labels)
        parts, device = [], _device(model, batch.images)
        for start in range(0, len(batch), batch_size):
            piece = batch[start : start + batch_size].to(device)
            goals = None if targets is None else targets[start : start + batch_size].to(device)
            quiet = (untouched(model, transfer_from), frozen(model, transfer_from))
            with _private_randomness(stream, device), quiet[0], quiet[1]:
                parts.append(self._attack(model, piece, goals, stream, transfer_from))
            if on_progress is not None:
                on_progress(min(start + batch_size, len(batch)), len(batch))
        return AttackResult.concat(parts)

    def _attack(
        self,
        model: nn.Module,
        batch: Batch,
        targets: Tensor | None,
        stream: Stream,
        transfer_from: nn.Module | None,
    ) -> AttackResult:
        kept = self._kept(model, batch, targets, transfer_from)
        attacked = judge = self._oracle(model, batch, targets, stream, kept)
        if transfer_from is not None:
            attacked = self._oracle(transfer_from, batch, targets, stream, kept, model)
            _checked(attacked.decide(batch.images, _CLEAN), batch.labels, attacked.goals)
        first = _checked(judge.decide(batch.images, _CLEAN), batch.labels, judge.goals)
        right = first.argmax(1) == batch.labels
        if kept is not None:
            judge.show(batch.images, torch.arange(len(batch), device=first.device))
            right = kept.share > 0 if targets is None else right
        images = self._proposed(attacked, batch.images, right, kept)
        predictions = judge.decide(images, _FINAL).argmax(1)
        wrong = predictions != batch.labels
        success = wrong if targets is None else predictions == targets
        share = (right & ~success).float() if kept is None else kept.share * right
        notes = tuple(dict.fromkeys(attacked.notes))
        return AttackResult(
            images, success, attacked.queries, right, predictions, share, notes=notes
        )

    def _proposed(self, oracle: Oracle, images: Tensor, right: Tensor, kept: Kept | None) -> Tensor:
        """What the attack makes of the images that are right, moved into the ball."""
        rows = right.nonzero()[:, 0]
        found = images.clone()
        if len(rows):
            clean = images[rows]
            proposed = self.run(oracle, clean, rows).detach()
            found[rows] = project(self.norm, self.eps, clean, proposed)
            if kept is not None:
                oracle.show(found[rows], rows)
                found[rows] = project(self.norm, self.eps, clean, kept.images[rows])
        return found

    def _kept(
        self,
        model: nn.Module,
        batch: Batch,
        targets: Tensor | None,
        transfer_from: nn.Module | None,
    ) -> Kept | None:
        """Candidates are judged where one query decides nothing, or another model answers it."""
        if not self.adaptive or not (is_randomised(model) or transfer_from is not None):
            return None
        goals = batch.labels if targets is None else targets
        return Kept(batch.images, goals, targeted=targets is not None, norm=self.norm, eps=self.eps)

    def _oracle(
        self,
        model: nn.Module,
        batch: Batch,
        targets: Tensor | None,
        stream: Stream,
        kept: Kept | None,
        judge: nn.Module | None = None,
    ) -> Oracle:
        return Oracle(
            model,
            batch.images,
            batch.labels if targets is None else targets,
            targeted=targets is not None,
            stream=stream.child(type(self).__name__),
            eot=self.eot,
            eot_of=self.eot_of,
            adaptive=self.adaptive,
            budget=self.budget,
            seconds=self.seconds,
            kept=kept,
            judge=judge,
        )

    def allowance(self, oracle: Oracle, queries: int) -> int:
        """How many candidates a budget of ``queries`` an image allows.

        Of an ``adaptive`` attack all of them: his averages do not cost him candidates.
        """
        return queries if self.adaptive else queries // oracle.draws

    def _check_targets(self, targets: Tensor | None, labels: Tensor) -> None:
        if targets is not None and not self.can_target:
            raise ArgumentError(
                expected=f"no targets: {type(self).__name__} is an untargeted attack",
                got="targets",
                remedy="Leave them out, or use PGD, APGD, CW, Square or another targeted attack.",
            )
        _check_targets(targets, labels)

    def threat(self, queries: int | None = None, targeted: bool = False) -> ThreatModel:
        """The threat model that this attack belongs to."""
        return ThreatModel(self.norm, self.eps, queries, self.knowledge, targeted)


def _require(condition: bool, expected: str, got: str) -> None:
    if not condition:
        raise ArgumentError(expected=expected, got=got, remedy="See the attack's documentation.")


require = _require


def require_finite_eps(eps: float, attack: str) -> None:
    """For attacks whose steps scale with the radius."""
    if math.isinf(eps):
        raise ArgumentError(
            expected=f"a finite eps for {attack}",
            got="eps=inf",
            remedy="Every image of [0, 1] lies within L∞ distance 1: use eps=1.",
        )


def _check_targets(targets: Tensor | None, labels: Tensor) -> None:
    if targets is None:
        return
    if targets.shape != labels.shape or targets.dtype != torch.int64:
        raise ArgumentError(
            expected=f"targets as int64 of shape {tuple(labels.shape)}",
            got=f"{targets.dtype} of shape {tuple(targets.shape)}",
            remedy="Give one target class per image.",
        )
    same = int((targets.to(labels.device) == labels).sum())
    if same:
        raise ArgumentError(
            expected="targets that differ from the labels",
            got=f"{same} targets equal to their label",
            remedy="Choose another class as the target of these images.",
        )


def _checked(logits: Tensor, labels: Tensor, goals: Tensor) -> Tensor:
    check_classes(torch.maximum(labels, goals), logits.shape[1])
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(
            expected="finite logits on clean images",
            got="NaN or infinite logits",
            remedy="Check the model's weights and its input normalisation.",
        )
    return logits


def _device(model: nn.Module, images: Tensor) -> torch.device:
    return next((t.device for t in (*model.parameters(), *model.buffers())), images.device)


@contextmanager
def _private_randomness(stream: Stream, device: torch.device) -> Iterator[None]:
    """Models that draw from the global generator get a seeded one; the caller's is restored."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(stream.key & (2**63 - 1))
        yield
