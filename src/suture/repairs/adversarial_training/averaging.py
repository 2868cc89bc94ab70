"""The exponential moving average of a model's weights: what is judged, and what is given back."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Average:
    """``a ← d·a + (1 - d)·w`` after every step, over floating-point weights and buffers.

    The decay grows to its value, ``d_t = min(decay, (1 + t) / (10 + t))`` after t earlier steps:
    a short training is not held back by the weights that it began with. Counters of batch norm
    are copied.

    Args:
        model: whose weights are averaged; the average starts as a copy of them.
        decay: per step, in [0, 1); 0 gives the weights themselves.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._of = dict(model.state_dict(keep_vars=True))
        self.state = {name: value.detach().clone() for name, value in self._of.items()}
        moving = [name for name, value in self._of.items() if value.is_floating_point()]
        self._moving = [self.state[name] for name in moving]
        self._weights = [self._of[name] for name in moving]
        self._counters = [name for name in self._of if name not in set(moving)]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after one more step."""
        share = 1 - decay_after(self.steps, self.decay)
        torch._foreach_lerp_(self._moving, [w.detach() for w in self._weights], share)
        for name in self._counters:
            self.state[name].copy_(self._of[name])
        self.steps += 1

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor], steps: int) -> None:
        """Go on from a state that was kept after so many steps."""
        for name, value in state.items():
            self.state[name].copy_(value)
        self.steps = steps


def decay_after(steps: int, decay: float) -> float:
    """``min(decay, (1 + steps) / (10 + steps))``."""
    return min(decay, (1 + steps) / (10 + steps))
