"""Basin hopping (Wales & Doye 1997): ascents that begin again beside the best point so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from suture.attacks.ascent import drop
from suture.attacks.base import ATTACKS, Attack, require, require_finite_eps
from suture.attacks.geometry import column, distance, margin, project
from suture.attacks.loss_kinds import Loss
from suture.attacks.losses import LOSSES, ahead, negated
from suture.attacks.oracle import Oracle
from suture.attacks.steps import Rows, ascended, random_start
from suture.rng import uniform
from suture.types import Norm

_CHOICE, _PATCH = 1 << 32, 1 << 33
"""Counters from here on choose what is redrawn, and draw patches; those below draw values."""
_PROGRESS = 1e-4
"""A hop helped if it lowered the margin by this share of it."""


@ATTACKS.add("basin-hopping")
@dataclass(frozen=True, kw_only=True)
class BasinHopping(Attack):
    """Random search over the local maxima of the margin (doi:10.1021/jp970984n, temperature 0).

    Where the margin has many maxima, every independent start ends in another of them, and none
    learns from the others. Here ``classes`` ascents start at random; each later one starts at the
    best point so far with a few of its values redrawn from the ball. Ascents are towards a wrong
    class by the bare difference of two logits, in turn towards the ``classes`` that are likeliest
    at the best point. Their steps begin at the width of the ball, and fall linearly to zero, along
    gradients with momentum (Dong et al. 2018, arXiv:1710.06081, Eq. 6, 7). In every second one
    towards a class, a gradient is the sum of those at a point drawn from a ball around where the
    ascent is and at the point opposite: with the momentum they follow the slope of the margin's
    mean over that ball, smooth where the margin is rough (Duchi, Bartlett & Wainwright 2012,
    arXiv:1103.4296). That ball begins wider than the attacker's and shrinks with the steps, from
    the margin's large features to its small ones. Such points may lie outside of the attacker's
    ball and of [0, 1], and are never judged. After each ascent square patches of the best point are
    tried at an end of the ball, for where gradients say nothing (as in the Square attack, which
    begins at the image).

    Args:
        hops: ascents, the first ones included.
        steps: gradient steps of each; a step is one query, three where gradients are smoothed.
        step_size: the first step, in units of ``eps``.
        momentum: what a step keeps of the sum of earlier gradients.
        smoothing: radius, at the first step, of the ball that gradients are drawn from, in units of
            ``eps``; falls linearly to zero. 0 takes them where the ascent is.
        redrawn: share of the values that are redrawn before a hop.
        probes: patches tried after each ascent, one query each.
        classes: wrong classes in turn.
        patience: an image leaves after so many hops in a row that brought it nothing.
    """

    hops: int = 60
    steps: int = 60
    step_size: float = 2.0
    momentum: float = 0.9
    smoothing: float = 3.0
    redrawn: float = 0.05
    probes: int = 100
    classes: int = 9
    patience: int = 20

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite_eps(self.eps, "BasinHopping")
        for name in ("hops", "steps", "classes", "patience"):
            value = getattr(self, name)
            require(value >= 1, f"{name} >= 1", f"{name}={value!r}")
        require(self.probes >= 0, "probes >= 0", f"probes={self.probes!r}")
        require(self.step_size > 0, "step_size > 0", f"step_size={self.step_size!r}")
        require(0 <= self.momentum < 1, "momentum in [0, 1)", f"momentum={self.momentum!r}")
        require(self.smoothing >= 0, "smoothing >= 0", f"smoothing={self.smoothing!r}")
        require(0 < self.redrawn <= 1, "redrawn in (0, 1]", f"redrawn={self.redrawn!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        found, done = images.clone(), torch.zeros_like(rows, dtype=torch.bool)
        state = Rows(clean=images, rows=rows, best=images, seen=oracle.logits(images, rows))
        state.top = _lead(oracle, state.seen, rows)
        state.idle = torch.zeros_like(rows)
        for hop in range(self.hops):
            state.before = state.top
            self._ascend(oracle, state, hop, found, done)
            self._probe(oracle, state, hop, found, done)
            helped = state.top > state.before + _PROGRESS * state.before.abs()
            state.idle = torch.where(helped, 0, state.idle + 1)
            found[state.place] = state.best
            state.leave(state.idle >= self.patience)
            if not len(state):
                break
        return found

    def _ascend(self, oracle: Oracle, state: Rows, hop: int, found: Tensor, done: Tensor) -> None:
        """One hop; images that are done with leave, of the others the best point is kept."""
        state.here = self._start(oracle, state, hop)
        state.goal = self._goals(oracle, state, hop)
        state.speed = torch.zeros_like(state.here)
        smoothed = self.smoothing > 0 and self._turn(state, hop) % 2 == 1
        for step in range(self.steps + 1):
            if smoothed or step == self.steps:
                state.logits = oracle.logits(state.here, state.rows)
            else:
                state.logits, state.gradient = self._slope(oracle, state, state.here)
            drop(state, oracle.finished(state.logits, state.rows), found, done)
            if not len(state):
                return
            _remember(oracle, state)
            if step < self.steps:
                if smoothed:
                    state.gradient = self._smooth_slope(oracle, state, hop, step)
                self._move(state, step)

    def _smooth_slope(self, oracle: Oracle, state: Rows, hop: int, step: int) -> Tensor:
        """Gradients at a point around where the ascent is, and at the one opposite; their sum."""
        radius = self.smoothing * self.eps * (1 - step / self.steps)
        with oracle.scope("smoothing"):
            count = hop * self.steps + step
            near = random_start(self.norm, radius, oracle, state.here, state.rows, count)
        there = (near, 2 * state.here - near)
        first, second = (self._slope(oracle, state, point)[1] for point in there)
        return first + second

    def _slope(self, oracle: Oracle, state: Rows, images: Tensor) -> tuple[Tensor, Tensor]:
        return oracle.gradient(images, state.rows, self._loss(oracle, state))

    def _move(self, state: Rows, step: int) -> None:
        """A step along the sum of the gradients so far, each of L1 length 1."""
        length = column(distance("l1", state.gradient).clamp_min(1e-12))
        state.speed = self.momentum * state.speed + state.gradient / length
        state.gradient = state.speed
        width = self.step_size * self.eps * (1 - step / self.steps)
        state.here = ascended(self.norm, self.eps, state, width)

    def _probe(self, oracle: Oracle, state: Rows, hop: int, found: Tensor, done: Tensor) -> None:
        """Patches of the best point go to an end of the ball, one after another."""
        for probe in range(self.probes if len(state) else 0):
            state.here = self._patched(oracle, state, hop, probe)
            state.logits = oracle.logits(state.here, state.rows)
            drop(state, oracle.finished(state.logits, state.rows), found, done)
            if not len(state):
                return
            _remember(oracle, state)

    def _patched(self, oracle: Oracle, state: Rows, hop: int, probe: int) -> Tensor:
        """The best point with one square at ``eps`` above or below the image, by channel."""
        channels, height, width = state.clean.shape[1:]
        first = _PATCH + probe * (3 + channels)
        counters = torch.arange(first, first + 3 + channels, device=state.rows.device)
        drawn = uniform(oracle.random_bits(state.rows, hop, counters[None]))
        side = 1 + (drawn[:, :1] * max(1, min(height, width) // 4)).floor()
        down, across = _span(height, side, drawn[:, 1:2]), _span(width, side, drawn[:, 2:3])
        patch = (down[:, :, None] & across[:, None, :])[:, None]
        end = torch.where(drawn[:, 3:] < 0.5, -self.eps, self.eps)[:, :, None, None]
        here = torch.where(patch, state.clean + end, state.best)
        return project(self.norm, self.eps, state.clean, here)

    def _start(self, oracle: Oracle, state: Rows, hop: int) -> Tensor:
        drawn = random_start(self.norm, self.eps, oracle, state.clean, state.rows, hop)
        if hop < self.classes:
            return drawn
        values = torch.arange(_CHOICE, _CHOICE + drawn[0].numel(), device=drawn.device)
        chosen = uniform(oracle.random_bits(state.rows, hop, values[None])) < self.redrawn
        here = torch.where(chosen.reshape(drawn.shape), drawn, state.best)
        return project(self.norm, self.eps, state.clean, here)

    def _goals(self, oracle: Oracle, state: Rows, hop: int) -> Tensor:
        """The class that each ascent is towards."""
        true = oracle.goals[state.rows]
        if oracle.targeted:
            return true
        others = state.seen.scatter(1, true[:, None], float("-inf"))
        ranked = others.argsort(dim=1, descending=True, stable=True)
        return ranked[:, hop % self._goal_count(state)]

    def _goal_count(self, state: Rows) -> int:
        return min(self.classes, state.seen.shape[1] - 1)

    def _turn(self, state: Rows, hop: int) -> int:
        """Even and odd from hop to hop, and towards each class from turn to turn."""
        return sum(divmod(hop, self._goal_count(state)))

    def _loss(self, oracle: Oracle, state: Rows) -> Loss:
        return negated(LOSSES["margin"]) if oracle.targeted else ahead(state.goal)


def _span(length: int, side: Tensor, place: Tensor) -> Tensor:
    """Bool ``(k, length)``: so many neighbours in a row, at a place drawn from [0, 1)."""
    first = (place * (length - side + 1)).floor()
    at = torch.arange(length, device=first.device)
    return (at >= first) & (at < first + side)


def _lead(oracle: Oracle, logits: Tensor, rows: Tensor) -> Tensor:
    """By how much the attacker has what he wants, ``(k,)``; negative where he does not."""
    gap = margin(logits, oracle.goals[rows])
    return gap if oracle.targeted else -gap


def _remember(oracle: Oracle, state: Rows) -> None:
    lead = _lead(oracle, state.logits, state.rows)
    better = lead > state.top
    state.best = torch.where(column(better), state.here, state.best)
    state.seen = torch.where(better[:, None], state.logits, state.seen)
    state.top = torch.where(better, lead, state.top)
