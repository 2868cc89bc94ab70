"""What the gradient ascents that set their own step size share: asking, and the best point."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from suture.attacks import ascent_kernels, kernels
from suture.attacks.geometry import column
from suture.attacks.loss_kinds import Loss
from suture.attacks.oracle import Oracle
from suture.attacks.steps import Rows

LossOf = Callable[[Rows], Loss]


def ask(oracle: Oracle, state: Rows, loss_of: LossOf) -> None:
    """Logits, loss and gradient where the images are."""
    logits, gradients, values = oracle.gradients(state.here, state.rows, [loss_of(state)])
    state.logits, state.gradient, state.value = logits, gradients[0], values[0]


def remember(state: Rows) -> None:
    """Keep the point of highest loss, with its gradient; what is kept changes in place."""
    if "best_gradient" not in vars(state):
        state.best, state.best_gradient = state.best.clone(), state.gradient.clone()
    found = (state.here, state.gradient, state.value)
    kept = (state.best, state.best_gradient, state.top)
    if kernels.compiles(*found, *kept):
        ascent_kernels.keep_better(*kernels.flat(*found, *kept))
        return
    better = state.value > state.top
    state.best = torch.where(column(better), state.here, state.best)
    state.best_gradient = torch.where(column(better), state.gradient, state.best_gradient)
    state.top = torch.where(better, state.value, state.top)


def drop(state: Rows, gone: Tensor, found: Tensor, done: Tensor) -> None:
    """Images that are done with leave; where they are now is what was found."""
    if bool(gone.any()):
        place = state.place[gone]
        found[place], done[place] = state.here[gone], True
        state.leave(gone)
