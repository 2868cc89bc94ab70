"""The only way an attack sees a model: counted, and with each image's own randomness."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from suture.attacks import kernels
from suture.attacks.against.answers import Answers, checked
from suture.attacks.against.candidates import Kept
from suture.attacks.geometry import margin
from suture.attacks.loss_kinds import Alike, ClosedForm, Loss, OfDraws
from suture.rng import Stream, bits, image_keys

Averaged = Literal["logits", "losses"]

ATTACK, QUERY, DECISION = 1, 2, 3
WALL = 50.0
"""Logit by which the goal is safe once an image's budget is spent: nothing improves on it."""


class Oracle:
    """Answers an attack's queries on one batch of images.

    Args:
        model: classifier, images to logits.
        images: the clean images; their content keys every random stream.
        goals: int64 ``(n,)``, the true classes, or the targets of a targeted attack.
        targeted: whether ``goals`` are to be reached rather than left.
        stream: the attack's random stream.
        eot: draws averaged per query of a randomised model (expectation over transformation).
        eot_of: what is averaged over the draws, where the attack has a loss.
        adaptive: whether the attacker knows the defence (see ``against.Answers``).
        budget: forwards allowed per image, ``None`` for no limit. A query that would exceed it is
            not made; the image then meets a wall: logits that nothing improves on, no gradient.
        seconds: time allowed per image, its share of the wall clock; not reproducible.
        kept: judges every candidate and keeps the best of each image; ``None`` where an image is
            finished as soon as one query finds it misclassified.
        judge: the model that decides whether a candidate fools, ``None`` for the one that is
            asked.

    Attributes:
        notes: what the attack wants the user to know.
        classes: number of classes, known after the first decision.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        goals: Tensor,
        *,
        targeted: bool,
        stream: Stream,
        eot: int,
        eot_of: Averaged = "logits",
        adaptive: bool = False,
        budget: int | None = None,
        seconds: float | None = None,
        kept: Kept | None = None,
        judge: nn.Module | None = None,
    ) -> None:
        self.model, self.goals, self.targeted = model, goals, targeted
        self.stream, self.keys = stream, image_keys(images, stream)
        self._own = self.keys  # a scope changes those of the attack, not the model's draws
        self.notes: list[str] = []
        self._queries = torch.zeros_like(goals)
        self._recent: _Recent | None = None
        nothing = torch.empty(0)
        self._last = (nothing, nothing, nothing)
        self.kept, self._answers = kept, Answers(model, eot=eot, adaptive=adaptive)
        self._judge = None if judge is None else Answers(judge, eot=eot, adaptive=adaptive)
        self.draws = self._answers.draws
        # Averages of fresh draws may have a short way; of what is known, every draw is looked at.
        self._short = not adaptive and eot > 1 and self._answers.randomised
        self._seen: tuple[Tensor | None, Tensor | None] = (None, None)
        self._eot_of, self._budget, self._seconds = eot_of, budget, seconds
        self._used = torch.zeros(len(goals), dtype=torch.float64, device=goals.device)
        self._clock = time.perf_counter()
        self._width = max(256, len(goals))
        self.classes = 0

    @property
    def queries(self) -> Tensor:
        """Int64 ``(n,)``, forwards that the attack has spent on each image."""
        if self._recent is not None and not self.limited:
            self._queries.index_copy_(0, self._recent.rows, self._recent.spent)
        return self._queries

    def _of(self, rows: Tensor) -> _Recent:
        """What is known of the rows; an attack asks about the same ones many times in turn."""
        if self._recent is None or self._recent.rows is not rows:
            spent = self.queries.index_select(0, rows)
            goals, keys = self.goals.index_select(0, rows), self._own.index_select(0, rows)
            self._recent = _Recent(rows, goals, keys, spent)
        return self._recent

    def random_bits(self, rows: Tensor, *counters: int | Tensor) -> Tensor:
        """64 random bits for each of the rows' images; counters tell draws apart.

        A tensor counter has a first axis for the rows (of size 1 to share it) and further axes
        for the numbers wanted per image.
        """
        keys = self.keys[rows]
        axes = max((c.ndim for c in counters if isinstance(c, Tensor)), default=1)
        return bits(keys.reshape(-1, *(1,) * (axes - 1)), ATTACK, *counters)

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Inside the block every random stream is another one, told apart by ``name``."""
        keys = self.keys
        self.keys = bits(keys, Stream(0).child(name).key)
        try:
            yield
        finally:
            self.keys = keys

    def logits(self, images: Tensor, rows: Tensor) -> Tensor:
        """Logits ``(k, classes)``, averaged over the draws; each draw is a counted query.

        Args:
            images: ``(k, c, h, w)``, the candidates.
            rows: int64 ``(k,)``, which image of the batch each candidate belongs to; no repeats.
        """
        with torch.no_grad():
            return self._mean(images, rows, self._spend(rows, 1))

    def losses(self, images: Tensor, rows: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Mean logits, and ``loss(logits, goals)``: of the mean, or its mean (``eot_of``)."""
        with torch.no_grad():
            draws = self._ask(images, rows, self._spend(rows, 1))
            logits = self._noted(self._answers.mean(draws), images, rows, draws)
            return logits, self._value(loss, draws, logits, rows)

    def differentiable(self, images: Tensor, rows: Tensor) -> Tensor:
        """Mean logits as ``logits``, but gradients are recorded where they are enabled."""
        logits = self._mean(images, rows, self._spend(rows, 1))
        if images.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            return logits + 0.0 * images.flatten(1)[:, :1]
        return logits

    def many(self, images: Tensor, rows: Tensor) -> Tensor:
        """Mean logits ``(k, m, classes)`` of m candidates per image, ``(k, m, c, h, w)``."""
        k, m = images.shape[:2]
        offsets = torch.arange(m, device=rows.device) * self.draws
        first = (self._spend(rows, m)[:, None] + offsets).flatten()
        flat, owners = images.flatten(0, 1), rows.repeat_interleave(m)
        logits, down = [], []
        with torch.no_grad():
            for i in range(0, k * m, self._width):
                part = (t[i : i + self._width] for t in (flat, owners, first))
                logits.append(self._mean(*part))
                down.append(self._seen[1])
        made = torch.cat(logits).reshape(k, m, -1)
        known = [part for part in down if part is not None]
        self._seen = (made, torch.cat(known).reshape(k, m) if known else None)
        return made

    def gradient(self, images: Tensor, rows: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Logits, and the gradient of ``loss(logits, goals)`` with respect to each image.

        ``loss`` returns one value per image; images do not influence each other's gradient.
        """
        logits, gradients, _ = self.gradients(images, rows, [loss])
        return logits, gradients[0]

    def gradients(
        self, images: Tensor, rows: Tensor, losses: Sequence[Loss]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Logits, and gradients and values of several losses, from one forward (per draw)."""
        images = images.detach().requires_grad_(True)
        with torch.enable_grad():
            draws = self._ask(images, rows, self._spend(rows, 1))
            mean = self._answers.mean(draws)
            found = [
                self._raised(loss, draws, mean, images, rows, more=index + 1 < len(losses))
                for index, loss in enumerate(losses)
            ]
        logits = self._noted(mean.detach(), images.detach(), rows, draws.detach())
        return logits, [slope for _, slope in found], [value for value, _ in found]

    def reached(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Bool ``(k,)`` or ``(k, m)``: whether the attacker has what he wants.

        Where every candidate is judged: whether no draw of the model denies it. Else whether
        ``argmax`` of the logits is it.

        Args:
            logits: what the last query returned.
        """
        if self.kept is not None:
            asked, seen = self._seen
            if not self._certain:
                return torch.zeros(logits.shape[:-1], dtype=torch.bool, device=logits.device)
            if asked is logits and seen is not None:
                return seen
            down = (self.kept.share[rows] == 0).reshape(-1, *(1,) * (logits.ndim - 2))
            return down & self._hit(logits, rows)
        return self._hit(logits, rows)

    def _hit(self, logits: Tensor, rows: Tensor) -> Tensor:
        if logits.ndim == 2 and kernels.compiles(logits):
            return self._judged(logits, rows)[0]
        hit = logits.argmax(-1) == self.goals[rows].reshape(-1, *(1,) * (logits.ndim - 2))
        return hit if self.targeted else ~hit

    def _judged(self, logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Whether the attacker has what he wants, and ``margin``: of one query both are wanted."""
        seen, hit, gap = self._last
        if seen is not logits:
            hit, gap = kernels.judged(logits, self._of(rows).goals, self.targeted)
            self._last = (logits, hit, gap)
        return hit, gap

    @property
    def _certain(self) -> bool:
        """Whether what fools every draw that was looked at fools every draw there is."""
        return (self._judge or self._answers).exact

    def finished(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Bool ``(k,)``: reached, or the image can ask no more."""
        return self.or_spent(self.reached(logits, rows), rows)

    def or_spent(self, done: Tensor, rows: Tensor) -> Tensor:
        """Bool ``(k,)``: done with, or the image can ask no more."""
        return done | ~self.can_ask(rows) if self.limited else done

    def can_ask(self, rows: Tensor) -> Tensor:
        """Bool ``(k,)``: whether the image's budget allows another query."""
        return self._allowed(rows, self.queries[rows])

    def decide(self, images: Tensor, occasion: int) -> Tensor:
        """Logits of a decision on all images of the batch, not counted as queries.

        Each occasion is a draw of its own: a model that was lucky on the clean image must not be
        given the same luck on the attacked one.
        """
        with torch.no_grad():
            if self._answers.randomised:
                noise = bits(self.keys, DECISION, occasion)
                logits = checked(self.model(images, noise=noise), images)
            else:
                logits = checked(self.model(images), images)
        self.classes, self._clock = logits.shape[1], time.perf_counter()
        return logits

    @property
    def limited(self) -> bool:
        """Whether there is a budget at all."""
        return self._budget is not None or self._seconds is not None

    def _allowed(self, rows: Tensor, first: Tensor) -> Tensor:
        allowed = torch.ones_like(first, dtype=torch.bool)
        if self._budget is not None:
            allowed &= first + self.draws <= self._budget
        if self._seconds is not None:
            allowed &= self._used[rows] < self._seconds
        return allowed

    def _spend(self, rows: Tensor, each: int) -> Tensor:
        """Counts ``each`` queries a row; returns what the rows had spent before, ``(k,)``.

        Where that numbers nothing and limits nothing, what they had spent some time ago.
        """
        if not self.limited:
            recent = self._of(rows)
            spent = recent.spent if self._answers.numbered else recent.before
            recent.since += each * self.draws
            return spent
        spent = self.queries[rows]
        if self._seconds is not None:
            now = time.perf_counter()
            self._used[rows] += (now - self._clock) / max(1, len(rows))
            self._clock = now
        asked: int | Tensor = each
        if self._budget is not None:
            asked = ((self._budget - spent) // self.draws).clamp(0, each)
        if self._seconds is not None:
            asked = asked * (self._used[rows] < self._seconds)
        self.queries[rows] = spent + asked * self.draws
        return spent

    def show(self, images: Tensor, rows: Tensor) -> None:
        """Let the keeper see candidates that were not asked about; no counted query."""
        with torch.no_grad():
            answers = self._judge or self._answers
            self._keep(answers, images, rows, answers(images, self._own[rows], rows * 0, QUERY))

    def _mean(self, images: Tensor, rows: Tensor, first: Tensor) -> Tensor:
        draws = self._ask(images, rows, first)
        return self._noted(self._answers.mean(draws), images, rows, draws)

    def _ask(self, images: Tensor, rows: Tensor, first: Tensor) -> Tensor:
        """Logits of every draw ``(d, k, classes)``; a wall where no budget is left."""
        short = self._short and self._eot_of == "logits"
        ask = self._answers.averaged if short else self._answers
        if not self.limited or bool((allowed := self._allowed(rows, first)).all()):
            return ask(images, self._of(rows).keys, first, QUERY)
        wall = torch.zeros(len(rows), self.classes, dtype=images.dtype, device=images.device)
        wall.scatter_(1, self.goals[rows][:, None], -WALL if self.targeted else WALL)
        if not bool(allowed.any()):
            return wall[None]
        some = ask(images[allowed], self._own[rows[allowed]], first[allowed], QUERY)
        full = wall.expand(len(some), -1, -1).clone()
        full[:, allowed] = some
        return full

    def _noted(self, mean: Tensor, images: Tensor, rows: Tensor, draws: Tensor) -> Tensor:
        """The mean logits, after the keeper has seen the candidates."""
        if self.kept is not None:
            with torch.no_grad():
                if self._judge is None:
                    down = self._keep(self._answers, images, rows, draws)
                else:
                    judged = self._judge(images, self._own[rows], rows * 0, QUERY)
                    down = self._keep(self._judge, images, rows, judged)
            self._seen = (mean, down)
        return mean

    def _keep(self, by: Answers, images: Tensor, rows: Tensor, draws: Tensor) -> Tensor:
        assert self.kept is not None, "asked for only where candidates are judged"
        return self.kept.see(images, rows, draws, by.weights)

    def _value(self, loss: Loss, draws: Tensor, mean: Tensor, rows: Tensor) -> Tensor:
        """A loss of the mean logits, or the mean of the draws' losses; some want all draws."""
        goals = self._of(rows).goals
        if isinstance(loss, OfDraws):
            return self._answers.mean(loss(draws, goals))
        if self._of_mean(draws):
            if loss is margin and kernels.compiles(mean):
                return self._judged(mean, rows)[1]
            return loss(mean, goals)
        if isinstance(loss, Alike):
            return self._answers.mean(OfDraws(loss.function)(draws, goals))
        return self._answers.mean(torch.stack([loss(draw, goals) for draw in draws]))

    def _of_mean(self, draws: Tensor) -> bool:
        return self._eot_of == "logits" or draws.shape[0] == 1

    def _raised(
        self, loss: Loss, draws: Tensor, mean: Tensor, images: Tensor, rows: Tensor, more: bool
    ) -> tuple[Tensor, Tensor]:
        """A loss and its gradient; ``more`` are wanted of the same query."""
        if isinstance(loss, ClosedForm):
            output = mean if self._of_mean(draws) else draws
            seen = output.detach().reshape(-1, *mean.shape)
            if kernels.compiles(seen):
                odds = self._answers.shares_of(seen.shape[0])
                values, slopes = loss.slopes(seen, self._of(rows).goals, odds)
                slope = self._slope(output, slopes.reshape(output.shape), images, more)
                return self._answers.mean(values), slope
        value = self._value(loss, draws, mean, rows)
        return value.detach(), self._slope(value, torch.ones_like(value), images, more)

    def _slope(self, output: Tensor, along: Tensor, images: Tensor, more: bool) -> Tensor:
        """The gradient of ``along · output``; zero where that does not depend on the image."""
        slope = None
        if output.requires_grad:
            (slope,) = torch.autograd.grad(
                output, images, along, retain_graph=more, allow_unused=True
            )
        if slope is None:
            self._note("no gradients: the outputs do not depend differentiably on the image")
            return torch.zeros_like(images)
        return slope

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)


@dataclass
class _Recent:
    """The rows asked about last, their goals and keys, what they had spent, and spend since."""

    rows: Tensor
    goals: Tensor
    keys: Tensor
    before: Tensor
    since: int = 0

    @property
    def spent(self) -> Tensor:
        return self.before + self.since
