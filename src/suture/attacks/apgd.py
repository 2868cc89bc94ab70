"""Auto-PGD: gradient ascent that sets its own step size (Croce & Hein 2020, arXiv:2003.01690)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from suture.attacks import ascent_kernels, kernels
from suture.attacks.apgd_l1 import ascend_l1
from suture.attacks.ascent import LossOf, ask, drop, remember
from suture.attacks.base import ATTACKS, Attack, require, require_finite_eps
from suture.attacks.geometry import column, distance
from suture.attacks.loss_kinds import Loss
from suture.attacks.losses import LOSSES, ahead, dlr_towards, negated
from suture.attacks.oracle import Oracle
from suture.attacks.steps import Rows, steepest
from suture.rng import normal, uniform
from suture.types import Norm

_TOWARDS: Mapping[str, Callable[[Tensor], Loss]] = {
    "dlr-targeted": dlr_towards,
    "margin-targeted": ahead,
}


@ATTACKS.add("apgd")
@dataclass(frozen=True, kw_only=True)
class APGD(Attack):
    """PGD with momentum and a step that is halved when progress stalls (paper, Algorithm 1).

    A port of the authors' code, per image, with early stopping per image. In L1 it is theirs of
    2021 (arXiv:2103.01208): sparse steps, and the ball and the box projected onto together.

    Args:
        loss: "ce", "dlr" (difference of logits ratio, Eq. 6), or "dlr-targeted": a run towards
            each of the ``classes`` most likely wrong classes (Eq. 7); "margin-targeted": the same
            with the bare difference of two logits (MultiTargeted, Gowal et al. 2019,
            arXiv:1910.09338). With targets given, every loss is its version towards the target.
        steps: gradient steps per start; each start asks for one gradient more.
        restarts: independent starts; later ones only for images that still hold.
        rho: share of steps that must raise the loss, else the step is halved (paper: 0.75).
        classes: target classes of the targeted losses (authors: 9; 5 in L1).
        decreasing: L1 only: begin with three times the radius, then twice (authors' "large eps").
    """

    loss: Literal["ce", "dlr", "dlr-targeted", "margin-targeted"] = "ce"
    steps: int = 100
    restarts: int = 1
    rho: float = 0.75
    classes: int = 9
    decreasing: bool = True

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite_eps(self.eps, "APGD")
        known = self.loss in (*LOSSES, *_TOWARDS)
        named = 'loss "ce", "dlr", "dlr-targeted" or "margin-targeted"'
        require(known, named, f"loss={self.loss!r}")
        require(self.steps >= 1, "steps >= 1", f"steps={self.steps!r}")
        require(self.restarts >= 1, "restarts >= 1", f"restarts={self.restarts!r}")
        require(0 < self.rho <= 1, "rho in (0, 1]", f"rho={self.rho!r}")
        require(self.classes >= 1, "classes >= 1", f"classes={self.classes!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        best = images.clone()
        left = Rows(clean=images, rows=rows)
        for start, loss_of in enumerate(self._losses(oracle, left)):
            found, done = self._ascend(oracle, left, start, loss_of)
            best[left.place] = found
            left.leave(done)
            if not len(left):
                break
        return best

    def _losses(self, oracle: Oracle, left: Rows) -> list[LossOf]:
        """The loss of every start, given the images that take part in it."""
        if self.loss not in _TOWARDS:
            plain = LOSSES[self.loss]
            chosen = negated(plain) if oracle.targeted else plain
            return [lambda _: chosen] * self.restarts
        if oracle.targeted:
            alone = LOSSES[self.loss.removesuffix("-targeted")]
            return [lambda _: negated(alone)] * self.restarts
        ranked = oracle.logits(left.clean, left.rows).argsort(dim=1, descending=True, stable=True)
        left.ranked = ranked
        ranks = range(1, min(self.classes, ranked.shape[1] - 1) + 1)
        pull = _TOWARDS[self.loss]
        return [_towards(rank, pull) for rank in ranks for _ in range(self.restarts)]

    def _ascend(
        self, oracle: Oracle, left: Rows, start: int, loss_of: LossOf
    ) -> tuple[Tensor, Tensor]:
        """One start: the first success or the point of highest loss, and who is finished."""
        if self.norm == "l1":
            return ascend_l1(
                oracle,
                left,
                start,
                loss_of,
                eps=self.eps,
                steps=self.steps,
                decreasing=self.decreasing,
            )
        found, done = left.clean.clone(), torch.zeros_like(left.rows, dtype=torch.bool)
        state = Rows(**{k: v for k, v in vars(left).items() if k != "place"})
        state.here = _border(self.norm, self.eps, oracle, left.clean, left.rows, start)
        state.before, state.best = state.here, state.here
        state.step = torch.full_like(state.here[:, 0, 0, 0], 2.0 * self.eps)
        state.top = torch.full_like(state.step, float("-inf"))
        schedule = _StepSizes(self.steps, self.rho)
        for index in range(self.steps + 1):
            ask(oracle, state, loss_of)
            drop(state, oracle.finished(state.logits, state.rows), found, done)
            if not len(state):
                return found, done
            remember(state)
            schedule.check(index, state)
            if index < self.steps:
                state.here, state.before = self._moved(state, index), state.here
        found[state.place] = state.best
        return found, done

    def _moved(self, state: Rows, index: int) -> Tensor:
        """A steepest step, then momentum (paper, Eq. 4)."""
        share = 0.75 if index else 1.0
        given = (state.here, state.before, state.clean, state.gradient, state.step)
        if self.norm == "linf" and kernels.compiles(*given):
            moved = torch.empty_like(state.here)
            numbers = (np.float32(self.eps), np.float32(share))
            ascent_kernels.momentum(*kernels.flat(*given), *numbers, *kernels.flat(moved))
            return moved
        straight = state.here + column(state.step) * steepest(self.norm, state.gradient)
        straight = _project(self.norm, self.eps, state.clean, straight)
        drift = (state.here - state.before) * (1.0 - share)
        mixed = state.here + (straight - state.here) * share + drift
        return _project(self.norm, self.eps, state.clean, mixed)


class _StepSizes:
    """Checkpoints w_j (paper, section 3.2), and both conditions for halving the step."""

    def __init__(self, steps: int, rho: float) -> None:
        self._period, self._least = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1)
        self._shrink, self._rho, self._since = max(int(0.03 * steps), 1), rho, 0

    def check(self, index: int, state: Rows) -> None:
        """At a checkpoint, halve the step of images that stall and send them back to the best."""
        if index == 0:
            state.raised, state.reduced = torch.zeros_like(state.top), torch.ones_like(state.top)
            state.top_before, state.last = state.top.clone(), state.value
            return
        state.raised = state.raised + (state.value > state.last)
        state.last, self._since = state.value, self._since + 1
        if self._since < self._period:
            return
        stalled = state.raised <= self._period * self._rho
        stalled |= (state.reduced == 0) & (state.top_before >= state.top)
        state.step = torch.where(stalled, state.step / 2.0, state.step)
        state.here = torch.where(column(stalled), state.best, state.here)
        state.gradient = torch.where(column(stalled), state.best_gradient, state.gradient)
        state.reduced, state.top_before = stalled.to(state.top.dtype), state.top.clone()
        state.raised = torch.zeros_like(state.top)
        self._period, self._since = max(self._period - self._shrink, self._least), 0


def _towards(rank: int, pull: Callable[[Tensor], Loss]) -> LossOf:
    return lambda state: pull(state.ranked[:, rank])


def _border(
    norm: Norm, eps: float, oracle: Oracle, clean: Tensor, rows: Tensor, start: int
) -> Tensor:
    """The authors' start: a random direction scaled to the radius, clipped to [0, 1]."""
    pixels = torch.arange(clean[0].numel(), device=clean.device)[None]
    first = oracle.random_bits(rows, start, pixels)
    if norm == "linf":
        offset = uniform(first, -1.0, 1.0)
    else:
        offset = normal(first, oracle.random_bits(rows, start, pixels + pixels.shape[1]))
    offset = offset.reshape(clean.shape)
    return (clean + offset * column(eps / distance(norm, offset).clamp_min(1e-12))).clamp(0, 1)


def _project(norm: Norm, eps: float, clean: Tensor, images: Tensor) -> Tensor:
    """The authors' order: into the ball first, then clipped to [0, 1]."""
    if norm == "linf":
        return images.clamp((clean - eps).clamp_min(0.0), (clean + eps).clamp_max(1.0))
    delta = images - clean
    length = distance("l2", delta)
    return (clean + delta * column(length.clamp_max(eps) / (length + 1e-12))).clamp(0.0, 1.0)
