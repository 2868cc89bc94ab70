"""Attacks that test neurons: which ones to wake, and ascent on a joint objective.

Neuron coverage (Pei et al. 2017) counts neurons that some input has activated. Here each image
wakes neurons of its own: a count over all inputs so far would make an image's result depend on
the images before it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from suture.attacks.aigent.tail import PHASED
from suture.attacks.ascent import drop
from suture.attacks.base import Attack, require, require_finite_eps
from suture.attacks.geometry import project, row_sum
from suture.attacks.oracle import Oracle
from suture.attacks.steps import Rows, steepest
from suture.types import Norm


@dataclass(frozen=True, kw_only=True)
class CoverageAscent(Attack):
    """Ascent on an objective of the logits, and on sleeping neurons.

    ``x ← Π(x + α·d(∇(objective + weight · Σ z_n)))`` with d the steepest direction of the norm and
    n the ``neurons`` of the image that are inactive and nearest to activation, by their value
    before the ReLU (a channel's mean over its map), over the mean of its layer's sizes.

    Args:
        steps: gradient steps, each one query (times ``eot``).
        step_size: α; ``None`` for ``2.5·eps/steps``.
        neurons: how many are woken per step; 0 for none.
        weight: of their values.
    """

    steps: int = 10
    step_size: float | None = None
    neurons: int = 10
    weight: float = 1.0

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    can_target: ClassVar[bool] = False
    draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite_eps(self.eps, type(self).__name__)
        require(self.steps >= 1, "steps >= 1", f"steps={self.steps!r}")
        positive = self.step_size is None or self.step_size > 0
        require(positive, "step_size > 0 or None", f"step_size={self.step_size!r}")
        require(self.neurons >= 0, "neurons >= 0", f"neurons={self.neurons!r}")
        require(self.weight >= 0, "weight >= 0", f"weight={self.weight!r}")

    @abstractmethod
    def objective(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """What is raised, ``(k,)``, of logits ``(k, classes)`` at images ``(k, c, h, w)``."""

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        found, done = images.clone(), torch.zeros_like(rows, dtype=torch.bool)
        state = Rows(clean=images, rows=rows, here=images)
        step = 2.5 * self.eps / self.steps if self.step_size is None else self.step_size
        for index in range(self.steps + 1):
            logits = self._asked(oracle, state)
            drop(state, oracle.finished(logits, state.rows), found, done)
            if not len(state) or index == self.steps:
                break
            moved = state.here + step * steepest(self.norm, state.gradient)
            state.here = project(self.norm, self.eps, state.clean, moved)
        found[state.place] = state.here
        return found

    def _asked(self, oracle: Oracle, state: Rows) -> Tensor:
        """Logits, and the gradient of the joint objective."""
        here = state.here.detach().requires_grad_(True)
        with torch.enable_grad(), Sleeping(oracle.model) as sleeping:
            logits = oracle.differentiable(here, state.rows)
            value = self.objective(logits, oracle.goals[state.rows], here).sum()
            if self.neurons and self.weight:
                woken = sleeping.nearest(self.neurons) / oracle.draws
                value = value + self.weight * woken
            (gradient,) = torch.autograd.grad(value, here, allow_unused=True)
        state.gradient = torch.zeros_like(here) if gradient is None else gradient
        return logits.detach()


class Sleeping:
    """Inside the block: what enters each ReLU module of a model, one value a neuron or channel."""

    def __init__(self, model: nn.Module) -> None:
        self._model, self._seen = model, list[Tensor]()

    def __enter__(self) -> Sleeping:
        phased = [m for m in self._model.modules() if isinstance(m, PHASED)]
        self._hooks = [m.register_forward_pre_hook(self._note) for m in phased]
        return self

    def __exit__(self, *exc: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _note(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        value = inputs[0].clone() if getattr(module, "inplace", False) else inputs[0]
        self._seen.append(value.flatten(2).mean(2) if value.ndim > 2 else value)

    def nearest(self, count: int) -> Tensor:
        """The sum over all images of their ``count`` inactive neurons nearest to activation.

        Each value is divided by the mean size of its layer's values, so that layers can be
        compared; 0 where nothing sleeps.
        """
        total = torch.zeros(())
        for batch in self._together():
            asleep = torch.where(batch.detach() < 0, batch, -torch.inf)
            best = asleep.topk(min(count, asleep.shape[1]), dim=1)
            values = torch.where(best.values.isfinite(), best.values, 0.0)
            total = total.to(values) + row_sum(values).sum()
        return total

    def _together(self) -> list[Tensor]:
        """The layers of one forward side by side, ``(k, neurons)``, forward after forward."""
        parts: dict[int, list[Tensor]] = {}
        for value in self._seen:
            size = value.detach().abs().flatten(1).mean(1, keepdim=True).clamp_min(1e-12)
            parts.setdefault(len(value), []).append(value / size)
        return [torch.cat(values, dim=1) for values in parts.values()]
